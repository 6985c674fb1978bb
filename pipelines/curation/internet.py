"""A small internet: real video files, pictures and broken downloads, from (seed, source, index).

It stands in for the sources of VideoMix22M and the retrieval targets where no data set is at hand
(`sources` says which theme each one has). Every file is encoded for real, in several containers and
codecs, sizes and rates; an edited one is cut together from several shots. Labels are the law of
motion (of a body, or of the whole picture before a moving camera) or, of stills, the shape; films
of a robot's arm have none.
Backgrounds of the targets resemble part of the pool and never the rest of it, so retrieval has
something to keep and to drop. What the generator knows (where it cut) goes nowhere: later stages
have only the files.
"""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.curation.camera import MOVES
from pipelines.curation.shots import SHAPES, Pixels, Shot, draw, draw_still, stream
from pipelines.curation.themes import StyleConfig, Theme
from storage.digests import unit_interval
from storage.video import encode, encode_image

# Container, codec, file extension; the first is as common as the others together.
FORMATS = (
    ("mp4", "libx264", "mp4"),
    ("webm", "libvpx-vp9", "webm"),
    ("avi", "mpeg4", "avi"),
    ("matroska", "libx264", "mkv"),
    ("mov", "mpeg4", "mov"),
)
BREAKAGES = ("truncated", "empty", "error_page", "bit_flips", "audio_only", "text")
SHAPE_OF_PICTURES = ((4, 3), (16, 9), (1, 1), (9, 16))


@dataclass(frozen=True)
class SyntheticVideo:
    """One file of the internet: where it is, and what it is drawn from."""

    source: str
    index: int
    path: str
    label: str | None
    split: str | None
    theme: Theme
    breakage: str | None = None


def synthetic_videos(
    source: str, theme: Theme, count: int, broken: int, style: StyleConfig
) -> Iterator[SyntheticVideo]:
    """`count` files of a source in order of their index, then `broken` ones if its theme has some.

    The first ones stay the same when a number grows.
    """
    motions = theme.motions
    for index in range(count):
        name = _name(source, index, style.seed)
        label, split, folder = None, "train", f"channel-{index % 5}/" if theme.edited else ""
        extension = FORMATS[_format(source, index, style.seed)][2]
        if theme.labels == "shape":
            label = SHAPES[index % len(SHAPES)]
            extension, folder = "png" if index % 4 == 3 else "jpg", f"{label}/"
            split = _split(index // len(SHAPES), index, theme)
        elif theme.labels == "motion":
            label, split = (
                motions[index % len(motions)],
                _split(index // len(motions), index, theme),
            )
        yield SyntheticVideo(source, index, f"{folder}{name}.{extension}", label, split, theme)
    for number in range(broken if theme.broken else 0):
        breakage = BREAKAGES[number % len(BREAKAGES)]
        extension = "webm" if breakage == "truncated" else "mp4"
        name = f"{_name(source, 1_000_000 + number, style.seed)}.{extension}"
        yield SyntheticVideo(source, count + number, name, None, None, theme, breakage)


def make(video: SyntheticVideo, style: StyleConfig) -> bytes:
    """The bytes of a file."""
    if video.breakage:
        return _broken(video, style)
    if video.theme.labels == "shape":
        return _still(video, style)
    kind, codec, _ = FORMATS[_format(video.source, video.index, style.seed)]
    height, width, rate = _screen(video, style)
    draw_frames = _arm if video.theme.moves == "arm" else _frames
    frames = draw_frames(video, style, height, width, rate)
    return encode(frames, rate, container=kind, codec=codec).data


def shots_of(video: SyntheticVideo, style: StyleConfig) -> list[Shot]:
    """The shots that a video is cut together from (for tests: no stage asks)."""
    key = (style.seed, video.source, video.index)
    random = stream(*key, "edit")
    looks, motions = video.theme.backdrops, video.theme.motions
    # Walked in turn and not drawn, so that a small pool has every look and they go evenly.
    main = looks[video.index % len(looks)]
    if not video.theme.edited:
        motion = video.label or motions[random.integers(len(motions))]
        theme = looks[int(random.integers(len(looks)))] if video.label else main
        lengths = style.camera_seconds if motion in MOVES else style.clip_seconds
        return [Shot(key, theme, motion, float(random.uniform(*lengths)))]
    count = int(random.integers(style.shots[0], style.shots[1] + 1)) * video.theme.edited
    shots: list[Shot] = []
    for number in range(count):
        other = looks[int(random.integers(len(looks)))]
        # A channel has its look, and neighbouring shots differ, as they do in edited videos.
        before = shots[-1].theme if shots else None
        theme = next(t for t in (main if number % 2 == 0 else other, other, *looks) if t != before)
        motion = motions[random.integers(len(motions))]
        seconds = float(random.uniform(*style.shot_seconds))
        shots.append(Shot((*key, number), theme, motion, seconds))
    return shots


def _frames(
    video: SyntheticVideo, style: StyleConfig, height: int, width: int, rate: float
) -> Iterator[Pixels]:
    """All frames of a video; where it fades, a third of a second to black and as long back."""
    shots, dark = shots_of(video, style), max(1, round(rate / 3))
    fades = [
        unit_interval(style.seed, video.source, video.index, "fade", number) < style.fades
        for number in range(len(shots) - 1)
    ]
    for number, shot in enumerate(shots):
        out = number < len(fades) and fades[number]
        back = number > 0 and fades[number - 1]
        frames = list(draw(shot, height, width, rate))
        for step, frame in enumerate(frames):
            light = min(
                (step + 0.5) / dark if back else 1.0,
                (len(frames) - step - 0.5) / dark if out else 1.0,
            )
            yield frame if light >= 1.0 else (frame * np.float32(light)).astype(np.uint8)


def _arm(
    video: SyntheticVideo, style: StyleConfig, height: int, _: int, rate: float
) -> Iterator[Pixels]:
    """All frames of a film of an arm; it is square."""
    # Imported here: no other video needs the simulator, which takes a while.
    from pipelines.robot.films import film

    key = (style.seed, video.source, video.index)
    seconds = float(stream(*key, "edit").uniform(*style.camera_seconds))
    return film(*key, height, rate, seconds)


def _still(video: SyntheticVideo, style: StyleConfig) -> bytes:
    height, width, _ = _screen(video, style)
    looks = video.theme.backdrops
    look = looks[video.index // len(SHAPES) % len(looks)]
    shot = Shot((style.seed, video.source, video.index), look, "spinning", 0.0)
    picture = draw_still(shot, height, width, str(video.label))
    return encode_image(picture, video.path.rsplit(".", 1)[1])


# What a broken file would show if it were whole.
_WHOLE = Theme(backdrops=("planks", "paper"), labels="motion")


def _broken(video: SyntheticVideo, style: StyleConfig) -> bytes:
    whole = SyntheticVideo("ssv2", video.index, video.path, "rolling", None, _WHOLE)
    height, width, rate = _screen(whole, style)
    if video.breakage == "empty":
        return b""
    if video.breakage == "error_page":
        return b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>\n"
    if video.breakage == "text":
        return f"This video ({video.index}) has been removed by its owner.\n".encode()
    if video.breakage == "audio_only":
        return _sound()
    frames = _frames(whole, style, height, width, rate)
    if video.breakage == "truncated":
        cut = encode(frames, rate, container="webm", codec="libvpx-vp9").data
        return cut[: len(cut) * 2 // 3]
    data = bytearray(encode(frames, rate).data)
    table = data.rindex(b"moov")  # the header that says where every frame lies
    for place in range(table, len(data), 7):
        data[place] ^= 0x55
    return bytes(data)


def _sound() -> bytes:
    """One second of a square wave."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        tone = (6000 if step // 20 % 2 else -6000 for step in range(8000))
        out.writeframes(b"".join(struct.pack("<h", level) for level in tone))
    return buffer.getvalue()


def _screen(video: SyntheticVideo, style: StyleConfig) -> tuple[int, int, int]:
    """Height and width in pixels (even), and frames a second."""
    random = stream(style.seed, video.source, video.index, "screen")
    sides, rates, shapes = {
        "body": (style.sides, style.rates, SHAPE_OF_PICTURES),
        "camera": (style.camera_sides, style.camera_rates, SHAPE_OF_PICTURES),
        "arm": (style.camera_sides, style.arm_rates, ((1, 1),) * 4),
    }[video.theme.moves]
    side = int(random.integers(sides[0], sides[1] + 1))
    across, down = shapes[random.choice(4, p=(0.4, 0.4, 0.1, 0.1))]
    unit = side / min(across, down)
    rate = rates[int(random.integers(len(rates)))]
    return 2 * round(unit * down / 2), 2 * round(unit * across / 2), rate


def _format(source: str, index: int, seed: int) -> int:
    """Which of FORMATS: the first for every other file."""
    draw = unit_interval(seed, source, index, "format")
    return 0 if draw < 0.5 else 1 + int((draw - 0.5) * 2 * (len(FORMATS) - 1))


def _name(source: str, index: int, seed: int) -> str:
    """Eleven letters and digits."""
    letters, rest = "abcdefghijkmnpqrstuvwxyz23456789", unit_interval(seed, source, index, "name")
    name = ""
    for _ in range(9):
        rest *= len(letters)
        name += letters[int(rest)]
        rest -= int(rest)
    return f"{name}{index % 100:02d}"


def _split(turn: int, index: int, theme: Theme) -> str:
    """Whether the file of this index, in a round of this number, is held out."""
    out, of = theme.validation
    held = (turn + 1) * out // of > turn * out // of
    within = not theme.validation_files or index < theme.validation_files
    return "validation" if held and within else "train"
