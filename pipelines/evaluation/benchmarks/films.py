"""Films under a benchmark's real names and in its own files, where its data is not at hand.

Every class is one of the moves of `camera` (of ImageNet: a shape), so that the answers are known;
its name is one that the benchmark has, and the annotation files are the benchmark's own, readable
by whatever reads the real ones. A few dozen small films stand in for hundreds of thousands: what is
measured on them is no number of the benchmark, and reports call it "format-faithful synthetic".
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from pipelines.curation.camera import MOVES
from pipelines.curation.shots import SHAPES, Shot, draw, draw_still, stream
from storage.video import encode, encode_image

NAMES: Mapping[str, tuple[str, ...]] = {
    "ssv2": (
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
        "Turning the camera upwards while filming something",
        "Turning the camera downwards while filming something",
        "Approaching something with your camera", "Moving away from something with your camera",
        "Rolling something on a flat surface", "Twisting something",
    ),
    "jester": (
        "Swiping Left", "Swiping Right", "Swiping Up", "Swiping Down",
        "Zooming In With Full Hand", "Zooming Out With Full Hand",
        "Turning Hand Counterclockwise", "Turning Hand Clockwise",
    ),
    "diving48": (
        "Back+15som+05Twis+FREE", "Back+15som+15Twis+FREE", "Back+15som+25Twis+FREE",
        "Back+15som+NoTwis+PIKE", "Back+25som+NoTwis+PIKE", "Forward+15som+1Twis+FREE",
        "Forward+25som+NoTwis+PIKE", "Reverse+Dive+NoTwis+TUCK",
    ),
    "k400": (
        "abseiling", "air drumming", "bowling", "diving cliff", "driving car", "parkour",
        "spinning poi", "windsurfing",
    ),
    "coin": (
        "UseAnalyticalBalance", "WrapGiftBox", "AssembleBed", "ChangeCarTire", "MakeCoffee",
        "PlayFrisbeeWithADog", "SowTheSeeds", "WashHair",
    ),
    "in1k": ("n01440764", "n01443537", "n01484850", "n01491361"),
}  # fmt: skip
"""Benchmark -> a name for each move (of pictures: for each shape)."""
_LOOKS = ("noise", "foliage", "bricks", "paper", "tiles")
_SIDE, _RATES = 48, (12, 15, 16)


@dataclass(frozen=True)
class Film:
    """One film, or picture, of a generated benchmark."""

    benchmark: str
    seed: int
    index: int
    key: str
    path: str
    label: str
    split: str


def films_of(benchmark: str, train: int, validation: int, seed: int) -> list[Film]:
    """Films of both sides, classes in turn."""
    made, names = [], NAMES[benchmark]
    for index in range(train + validation):
        split = "train" if index < train else "validation"
        label = names[index % len(names)]
        key, path = _named(benchmark, index, label, split)
        made.append(Film(benchmark, seed, index, key, path, label, split))
    return made


def filmed(film: Film) -> bytes:
    """The bytes of a film: 48 pixels high, a second and a half; those of a picture."""
    key = ("benchmark", film.benchmark, film.seed, film.index)
    random = stream(*key)
    look, rate = _LOOKS[int(random.integers(5))], _RATES[int(random.integers(3))]
    kind = NAMES[film.benchmark].index(film.label)
    if film.benchmark == "in1k":
        picture = draw_still(Shot(key, look, "spinning", 0.0), _SIDE, _SIDE, SHAPES[kind])
        return encode_image(picture, "jpg")
    shot = Shot(key, look, MOVES[kind], float(random.uniform(1.4, 1.9)))
    webm = film.path.endswith(".webm")
    container, codec = ("webm", "libvpx-vp9") if webm else ("mp4", "libx264")
    return encode(draw(shot, _SIDE, 64, rate), rate, container=container, codec=codec).data


def annotation_files(benchmark: str, films: Sequence[Film]) -> dict[str, bytes]:
    """Name -> bytes of the benchmark's own annotation files, which list these films."""
    return {
        name: data if isinstance(data, bytes) else data.encode()
        for name, data in _WRITERS[benchmark](films).items()
    }


def _named(benchmark: str, index: int, label: str, split: str) -> tuple[str, str]:
    """Key and path of a film, as the real ones are called."""
    folder = "train" if split == "train" else "val"
    if benchmark == "ssv2":
        return str(index + 1), f"{index + 1}.webm"
    if benchmark == "in1k":
        name = f"{label}_{index}" if split == "train" else f"ILSVRC2012_val_{index:08d}"
        return name, f"{folder}/{label}/{name}.JPEG"
    if benchmark == "k400":
        key = f"film{index:07d}_000000_000010"
        return key, f"{folder}/{label}/{key}.mp4"
    key = str(index + 1) if benchmark == "jester" else f"film{index:07d}"
    return key, f"{key}.mp4"


Written = Mapping[str, str | bytes]


def _by_side(films: Sequence[Film]) -> dict[str, list[Film]]:
    return {side: [f for f in films if f.split == side] for side in ("train", "validation")}


def _something(films: Sequence[Film]) -> Written:
    files = {"labels.json": json.dumps({n: str(i) for i, n in enumerate(NAMES["ssv2"])})}
    for side, some in _by_side(films).items():
        entries = [
            {"id": f.key, "label": f.label.lower(), "template": f.label.replace(
                "something", "[something]"), "placeholders": ["a texture"]}
            for f in some
        ]  # fmt: skip
        files[f"{side}.json"] = json.dumps(entries, indent=0)
    return files


def _jester(films: Sequence[Film]) -> Written:
    lists = {
        f"jester-v1-{side}.csv": "".join(f"{f.key};{f.label}\n" for f in some)
        for side, some in _by_side(films).items()
    }
    return {**lists, "jester-v1-labels.csv": "".join(f"{name}\n" for name in NAMES["jester"])}


def _diving(films: Sequence[Film]) -> Written:
    files = {"Diving48_vocab.json": json.dumps([n.split("+") for n in NAMES["diving48"]])}
    for side, some in _by_side(films).items():
        entries = [
            {"vid_name": f.key, "label": NAMES["diving48"].index(f.label), "start_frame": 0,
             "end_frame": 20}
            for f in some
        ]  # fmt: skip
        files[f"Diving48_V2_{'train' if side == 'train' else 'test'}.json"] = json.dumps(entries)
    return files


def _kinetics(films: Sequence[Film]) -> Written:
    return {
        f"{side}.csv": "label,youtube_id,time_start,time_end,split\n"
        + "".join(f"{f.label},{f.key[:-14]},0,10,{side}\n" for f in some)
        for side, some in _by_side(films).items()
    }


def _coin(films: Sequence[Film]) -> Written:
    names = NAMES["coin"]
    videos: dict[str, dict[str, Any]] = {
        f.key: {
            "class": f.label, "recipe_type": names.index(f.label), "annotation": [],
            "subset": "training" if f.split == "train" else "testing",
        }
        for f in films
    }  # fmt: skip
    actions = [(str(i), name, str(i + 1), f"do step {i + 1}") for i, name in enumerate(names)]
    book = workbook({
        "domain_target_mapping": [("Domains", "Targets"), *(("Household", n) for n in names)],
        "target_action_mapping": [
            ("Target Id", "Target Label", "Action Id", "Action Label"), *actions
        ],
    })  # fmt: skip
    return {"COIN.json": json.dumps({"database": videos}), "taxonomy.xlsx": book}


def _imagenet(films: Sequence[Film]) -> Written:
    rows = "".join(f"{f.key},{f.label} 0 0 {_SIDE} {_SIDE}\n" for f in films if f.split != "train")
    return {"LOC_val_solution.csv": f"ImageId,PredictionString\n{rows}"}


_WRITERS: Mapping[str, Callable[[Sequence[Film]], Written]] = {
    "ssv2": _something, "jester": _jester, "diving48": _diving, "k400": _kinetics, "coin": _coin,
    "in1k": _imagenet,
}  # fmt: skip


def workbook(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """An Excel file of text cells: name -> rows of at most 26 cells; the same bytes every time."""
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    named = "".join(f'<sheet name="{n}" sheetId="{i}"/>' for i, n in enumerate(sheets, 1))
    parts = {
        "xl/workbook.xml": f'<workbook xmlns="{space}"><sheets>{named}</sheets></workbook>',
        "xl/sharedStrings.xml": f'<sst xmlns="{space}"/>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        cells = "".join(
            f'<row r="{r}">' + "".join(
                f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t>{escape(text)}</t></is></c>'
                for c, text in enumerate(row)
            ) + "</row>"
            for r, row in enumerate(rows, 1)
        )  # fmt: skip
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{space}"><sheetData>{cells}</sheetData></worksheet>'
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        for name, text in parts.items():
            book.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()
