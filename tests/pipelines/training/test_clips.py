"""Claims: a clip holds the frames of its window, cropped, resized, flipped and normalised as said;
short samples hold their last frame; stills repeat; the cache changes nothing but speed; a sample
that cannot be read, whose bytes changed or whose decoder reports damage is replaced from its own
source and reported; a source that is broken stops it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipelines.training import clips
from pipelines.training.clips import ClipConfig, ClipLoader, augment, crop_box, frame_numbers
from pipelines.training.order import CROP, FLIP, ClipSampler, Draw, uniforms
from storage.artifacts import Artifact, ArtifactError, FileEntry, Manifest
from storage.errors import InputError
from storage.manifests import list_files
from storage.payloads import LocalPayload
from storage.pictures import VideoError
from storage.shards import ShardWriter
from storage.video import encode, encode_image, probe

Shards = tuple[dict[str, np.ndarray], Path]
"""Columns of an index, and the folder of its shards."""

SMALL = ClipConfig(frames=4, fps=4.0, crop=32)
WHOLE = ClipConfig(frames=4, fps=4.0, crop=48, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)


def counting_video(frames: int, height: int = 48, width: int = 64) -> bytes:
    """Frame i is grey of level 4 i, at 8 frames a second."""
    pictures = [np.full((height, width, 3), 4 * i, np.uint8) for i in range(frames)]
    return encode(pictures, 8.0, keyframes=1.0, options={"crf": "4"}).data


def noisy_video(frames: int) -> bytes:
    """Noise, of which every byte of the stream matters."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 255, (frames, 48, 64, 3), dtype=np.uint8)
    return encode(pictures, 8.0, keyframes=1.0).data


def still(height: int = 40, width: int = 60) -> bytes:
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    return encode_image(np.tile(ramp[None, :, None], (height, 1, 3)), "jpg", 2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Index and folder of a shard: videos of 48, 48, 48, 9 and 3 frames, a still, two broken."""
    folder = tmp_path_factory.mktemp("shards")
    broken = counting_video(48)[:600]
    samples: list[tuple[str, str, bytes, int]] = [
        *(("ssv2", "mp4", counting_video(n), n) for n in (48, 48, 48, 9, 3)),
        ("imagenet", "jpg", still(), 1),
        ("ssv2", "mp4", broken, 48),
        ("coin", "mp4", broken, 48),
    ]
    rows: list[dict[str, Any]] = []
    with ShardWriter(folder / "shards") as writer:
        for number, (source, ext, data, frames) in enumerate(samples):
            span = writer.write(f"s{number}", {ext: data, "json": {"n": number}})[ext]
            image = ext == "jpg"
            rows.append({
                "key": f"s{number}", "source": source, "partition": "p", "shard": span.shard,
                "offset": span.offset, "size": span.size, "digest": span.digest,
                "kind": "image" if image else "video",
                "fps": 0.0 if image else 8.0, "frames": frames, "weight": 1.0,
                "width": 60 if image else 64, "height": 40 if image else 48,
            })  # fmt: skip
    return {name: np.array([row[name] for row in rows]) for name in clips.COLUMNS}, folder


def manifest(folder: Path) -> Manifest:
    digest = "0" * 64
    files = list_files(folder) or (FileEntry("shards/000000.tar", 1, digest),)
    return Manifest("clip_shards", "p", {}, digest, digest, files, {})


def loader(shards: Shards, config: ClipConfig, only: str, cache: int = 0) -> ClipLoader:
    index, folder = shards
    artifact = Artifact(manifest(folder), LocalPayload(folder))
    sampler = ClipSampler(index, {only: 1.0}, seed=5)
    return ClipLoader(index, {"p": artifact}, sampler, config, cache_bytes=cache)


def levels(clip: torch.Tensor) -> list[int]:
    """Which frames of `counting_video` a clip shows."""
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    grey = ((clip * std + mean) * 255).mean(dim=(0, 2, 3))
    return [round(level / 4) for level in grey.tolist()]


def test_window_by_hand() -> None:
    # 8 stored frames a second, a clip takes 4: every second frame, either phase.
    assert frame_numbers(48, 8.0, SMALL, 0.0).tolist() == [0, 2, 4, 6]
    assert frame_numbers(48, 8.0, SMALL, 0.999999).tolist() == [41, 43, 45, 47]
    starts = {int(frame_numbers(48, 8.0, SMALL, u / 1000)[0]) for u in range(1000)}
    assert starts == set(range(42))
    # 10 a second: 2.5 frames apart, rounded down.
    assert frame_numbers(48, 10.0, SMALL, 0.0).tolist() == [0, 2, 5, 7]
    # 3 a second: frames repeat.
    assert frame_numbers(48, 3.0, SMALL, 0.0).tolist() == [0, 0, 1, 2]
    # Exactly long enough, and too short: the rate stays, the last frame is held.
    assert frame_numbers(7, 8.0, SMALL, 0.9).tolist() == [0, 2, 4, 6]
    assert frame_numbers(5, 8.0, SMALL, 0.9).tolist() == [0, 2, 4, 4]
    assert frame_numbers(1, 8.0, SMALL, 0.9).tolist() == [0, 0, 0, 0]


def test_the_papers_window_takes_two_phases() -> None:
    numbers = frame_numbers(80, 8.0, ClipConfig(), 0.5)
    assert len(numbers) == 16
    assert set(np.diff(numbers)) == {2}


def test_crops_stay_inside_and_keep_area_and_aspect() -> None:
    shares, ratios = [], []
    for slot in range(300):
        numbers = uniforms(0, 0, slot)[CROP:]
        top, left, h, w = crop_box(320, 426, numbers, ClipConfig())
        assert 0 <= top <= 320 - h and 0 <= left <= 426 - w
        shares.append(h * w / (320 * 426))
        # A third of a square fits at any allowed aspect, so here the first try is always taken.
        h, w = crop_box(320, 320, numbers, ClipConfig(scale=(0.3, 0.3)))[2:]
        assert h * w / 320**2 == pytest.approx(0.3, abs=0.005)
        ratios.append(w / h)
    # Crops of most of the picture rarely fit, so small ones are more frequent; all sizes occur.
    assert np.histogram(shares, bins=(0.29, 0.5, 0.75, 1.0))[0].min() > 20
    assert 0.74 < min(ratios) < 0.77 and 1.32 < max(ratios) < 1.37
    # Log-uniform: as often below as above the geometric middle of the range (0.1: 3.5 sigma).
    assert np.mean(np.array(ratios) < np.sqrt(0.75 * 1.35)) == pytest.approx(0.5, abs=0.1)


def test_a_crop_that_never_fits_is_the_largest_centred_one() -> None:
    config = ClipConfig(scale=(1.0, 1.0), aspect=(0.75, 1.35))
    assert crop_box(100, 400, np.zeros(40), config) == (0, 132, 100, 135)
    assert crop_box(400, 90, np.zeros(40), config) == (140, 0, 120, 90)
    assert crop_box(100, 100, np.full(40, 0.4), ClipConfig(scale=(1, 1), aspect=(1, 1))) == (
        0, 0, 100, 100,
    )  # fmt: skip


def test_pixels_by_hand() -> None:
    # Two columns, black and white, at the size they have: nothing is resized.
    picture = np.zeros((2, 4, 4, 3), np.uint8)
    picture[:, :, 2:] = 255
    config = ClipConfig(frames=2, crop=4, scale=(1, 1), aspect=(1, 1), flip=0.5)
    numbers = np.zeros(44)
    numbers[FLIP] = 0.5
    clip = augment(picture, numbers, config)
    assert clip.shape == (3, 2, 4, 4)
    black, white = (0 - 0.485) / 0.229, (1 - 0.485) / 0.229
    assert torch.allclose(clip[0, 0, 0], torch.tensor([black, black, white, white]))
    assert clip[2, 1, 3, 3].item() == pytest.approx((1 - 0.406) / 0.225, rel=1e-6)
    numbers[FLIP] = 0.499
    assert torch.equal(augment(picture, numbers, config), clip.flip(-1))


def test_clips_show_consecutive_frames_of_one_window(
    shards: Shards,
) -> None:
    reader = loader(shards, WHOLE, "ssv2")
    seen = set()
    for slot in range(24):
        draw = reader.sampler.draw(0, slot)
        if draw.row == 6:
            continue  # the broken one
        clip = reader.clip(0, slot)
        assert clip.shape == (3, 4, 48, 48) and clip.dtype == torch.float32
        index = shards[0]
        start = draw.numbers[2]
        assert levels(clip) == frame_numbers(
            int(index["frames"][draw.row]), 8.0, WHOLE, start
        ).tolist()  # fmt: skip
        seen.add(draw.row)
    assert seen == {0, 1, 2, 3, 4}


def test_cropping_first_gives_the_pixels_of_cropping_last(shards: Shards) -> None:
    config = ClipConfig(frames=4, crop=32)
    for only in ("ssv2", "imagenet"):
        reader = loader(shards, config, only)
        for slot in range(40):
            draw = reader.sampler.draw(0, slot)
            if draw.row != 6:
                height, width = (int(shards[0][side][draw.row]) for side in ("height", "width"))
                whole = reader.pictures(draw, (0, 0, height, width))
                assert torch.equal(reader.clip(0, slot), augment(whole, draw.numbers, config))


def test_a_still_repeats(shards: Shards) -> None:
    clip = loader(shards, SMALL, "imagenet").clip(0, 0)
    assert clip.shape == (3, 4, 32, 32)
    assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(4))
    assert clip[0, 0].std() > 0.1


def test_the_cache_changes_nothing(shards: Shards) -> None:
    plain = loader(shards, SMALL, "ssv2")
    # Room for four of the 48-frame videos: some are pushed out again.
    cached = loader(shards, SMALL, "ssv2", cache=4 * 48 * 48 * 64 * 3)
    for step in range(3):
        slots = range(8)
        assert torch.equal(plain.batch(step, slots), cached.batch(step, slots))
    assert plain.batch(0, range(8)).shape == (8, 3, 4, 32, 32)


def test_what_cannot_be_read_is_replaced_from_its_source_and_reported(
    shards: Shards,
) -> None:
    reader = loader(shards, SMALL, "ssv2")
    places = [(step, slot) for step in range(4) for slot in range(8)]
    broken = [place for place in places if reader.sampler.draw(*place).row == 6]
    assert broken
    first = {place: reader.clip(*place) for place in places}
    assert {(r.step, r.slot) for r in reader.replacements} == set(broken)
    reported = reader.replacements[0]
    assert (reported.key, reported.source, reported.where) == ("s6", "ssv2", "p/000000.tar")
    assert reported.reason
    again = loader(shards, SMALL, "ssv2")
    for place in broken:
        assert torch.equal(again.clip(*place), first[place])


def overwritten(shards: Shards, rows: Iterable[int], folder: Path) -> Shards:
    """The shards with eight bytes inside each of some samples overwritten."""
    index, whole = shards
    copied = shutil.copytree(whole, folder / "damaged")
    for row in rows:
        with (copied / "shards" / index["shard"][row]).open("r+b") as file:
            file.seek(int(index["offset"][row]) + int(index["size"][row]) * 2 // 3)
            eight = file.read(8)
            file.seek(-8, 1)
            file.write(bytes(byte ^ 0x5A for byte in eight))
    return index, copied


def test_eight_overwritten_bytes_are_noticed_in_every_sample(
    shards: Shards, tmp_path: Path
) -> None:
    rows = range(len(shards[0]["key"]))
    reader = loader(overwritten(shards, rows, tmp_path), SMALL, "ssv2")
    for row in rows:
        with pytest.raises(InputError, match=r"000000.tar: .* do not fit their digest"):
            reader.pictures(Draw(row, uniforms(0, 0, row)), (0, 0, 8, 8))


def test_a_sample_whose_bytes_changed_is_replaced_and_reported(
    shards: Shards, tmp_path: Path
) -> None:
    whole = loader(shards, SMALL, "ssv2")
    reader = loader(overwritten(shards, [1, 2], tmp_path), SMALL, "ssv2")
    rows = {slot: whole.sampler.draw(0, slot).row for slot in range(24)}
    for slot, row in rows.items():
        # The same sample may be drawn again in the same place: what counts is what is reported.
        same = torch.equal(reader.clip(0, slot), whole.clip(0, slot))
        assert same or row in (1, 2) or row == 6
    reported = {r.slot: r for r in reader.replacements if r.attempt == 0 and r.key != "s6"}
    assert set(reported) == {slot for slot, row in rows.items() if row in (1, 2)} != set()
    assert {r.key for r in reported.values()} == {"s1", "s2"}
    assert all("digest" in r.reason for r in reported.values())


def test_damage_that_only_the_decoder_sees_is_unreadable(shards: Shards, tmp_path: Path) -> None:
    # Damaged before its digest was taken: every frame still comes, some of them made up.
    random, data = np.random.default_rng(2), bytearray(noisy_video(48))
    for place in random.integers(len(data) // 4, len(data) * 3 // 4, 20):
        data[place] ^= 0xFF
    found = probe(bytes(data))
    assert found.frames == 48 and found.damaged
    with ShardWriter(tmp_path / "shards") as writer:
        span = writer.write("s0", {"mp4": bytes(data), "json": {}})["mp4"]
    row = {name: column[:1].copy() for name, column in shards[0].items()}
    for name in ("offset", "size", "digest"):
        row[name][0] = getattr(span, name)
    reader = loader((row, tmp_path), SMALL, "ssv2", cache=1 << 30)
    with pytest.raises(VideoError, match=r"corrupt frame|cannot be decoded"):
        reader.pictures(Draw(0, uniforms(0, 0, 0)), (0, 0, 8, 8))


def test_a_sample_with_fewer_frames_than_its_index_says_is_unreadable(
    shards: Shards, tmp_path: Path
) -> None:
    row = {name: column[3:4].copy() for name, column in shards[0].items()}
    row["frames"][0] = 48  # it holds 9
    reader = loader((row, shards[1]), SMALL, "ssv2", cache=1 << 30)
    with pytest.raises(VideoError, match=r"it holds 9 frames, and number 47 is wanted"):
        reader.pictures(Draw(0, uniforms(0, 0, 0)), (0, 0, 8, 8))


def test_a_source_that_is_broken_stops_training(
    shards: Shards,
) -> None:
    with pytest.raises(InputError, match=r"step 3, slot 1: 16 clips of source coin in a row"):
        loader(shards, SMALL, "coin").clip(3, 1)


def test_a_missing_shard_is_no_replacement(shards: Shards, tmp_path: Path) -> None:
    reader = loader((shards[0], tmp_path), SMALL, "ssv2")
    with pytest.raises(ArtifactError, match=r"000000.tar"):
        reader.clip(0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames = 0"),
        ({"fps": 0.0}, "fps = 0.0"),
        ({"scale": (0.0, 1.0)}, r"ClipConfig.scale.0 = 0.0: must be above 0 and at most 1"),
        ({"scale": (0.5, 1.2)}, r"ClipConfig.scale"),
        ({"aspect": (2.0, 1.0)}, r"ClipConfig.aspect"),
        ({"flip": 1.5}, "ClipConfig.flip = 1.5"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(**change)
