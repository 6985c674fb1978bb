"""Claims: a scene is embedded and transcoded once: after one file of a partition changed, its
scenes alone are, after one went none; what clips depend on is asked for, and what they do not is
not; a clip whose shard is gone or damaged is made again; a shard without the video that went keeps
its bytes; and all bytes are those of a build from nothing. A vector does not depend on who else is
in its batch.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.curation import clip_shards, embeddings, ingest, scenes, transcoding
from pipelines.curation.clip_shards import ClipShardsConfig
from pipelines.curation.embedders import Embedder, load_embedder
from pipelines.curation.embeddings import EmbeddingsConfig
from pipelines.curation.ingest import RawVideosConfig, SourceConfig
from pipelines.curation.scenes import ScenesConfig
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace, materialize
from storage.artifacts import Artifact, ArtifactStore
from storage.video import encode, encode_image
from tests.pipelines.builders import map_in_turn
from tests.pipelines.curation.builders import moving
from tests.pipelines.curation.test_embeddings import tiny_dinov2

LITE = EmbeddingsConfig(model="efficientnet_lite0", size=32)
SHARDS = ClipShardsConfig(short_side=48, shard_samples=2, piece_seconds=0.5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is really worked on: frames `embedded`, scenes `transcoded`."""
    counts: Counter[str] = Counter()

    def counting(function: Callable, word: str, amount: Callable) -> Callable:
        def counted(*given: Any) -> Any:
            counts[word] += amount(*given)
            return function(*given)

        return counted

    monkeypatch.setattr(Workspace, "map", map_in_turn)
    embed = counting(embeddings.embed, "embedded", lambda frames, *_: len(frames))
    monkeypatch.setattr(embeddings, "embed", embed)
    clips = counting(transcoding.stored_clips, "transcoded", lambda *_: 1)
    monkeypatch.setattr(transcoding, "stored_clips", clips)
    return counts


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    """Videos of two shots of 0.8 s."""
    return [encode([*moving(8, n), *moving(8, n + 50)], 10.0).data for n in range(7)]


@pytest.fixture
def folder(tmp_path: Path, clips: list[bytes]) -> Path:
    """Six videos and a still."""
    root = tmp_path / "source"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.mp4").write_bytes(clips[number])
    (root / "still.png").write_bytes(encode_image(moving(1, 9)[0], "png"))
    return root


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return ArtifactStore(str(tmp_path / "store"))
    return ArtifactStore(request.getfixturevalue("s3_store"), tmp_path / "cache")


def curated(
    folder: Path, store: ArtifactStore, shards: ClipShardsConfig = SHARDS, lite: Any = LITE
) -> dict[str, Artifact]:
    """What a folder becomes: embeddings and shards, and what is in between."""
    raw = RawVideosConfig(sources={"yt1b": SourceConfig(location=str(folder))})
    cutting = ScenesConfig(min_seconds=0.2, flash_frames=5)
    made: dict[str, Artifact] = {}
    for stage, config in (
        (ingest.STAGE, raw), (scenes.STAGE, cutting), (embeddings.STAGE, lite),
        (clip_shards.STAGE, shards),
    ):  # fmt: skip
        above = {f"{name}/yt1b": made[name] for name in ("raw_videos", "scenes") if name in made}
        made[stage.name] = materialize(
            store, stage, config, above, asset=stage.name, partition="yt1b",
            execution=ExecutionConfig(cache=folder.parent),
        ).artifact  # fmt: skip
    return made


def contents(made: dict[str, Artifact]) -> dict[str, str]:
    return {name: artifact.content for name, artifact in made.items()}


def shards_of(made: dict[str, Artifact]) -> dict[str, set[str]]:
    """Digest of each shard -> paths of the videos in it."""
    path = {row["video_id"]: row["path"] for row in made["raw_videos"].table("videos.parquet")}
    held: dict[str, set[str]] = {}
    for row in made["clip_shards"].table("index.parquet"):
        digest = made["clip_shards"].manifest.file(f"shards/{row['shard']}").digest
        held.setdefault(digest, set()).add(path[row["video_id"]])
    return held


def test_of_a_file_that_changed_its_scenes_alone_are_worked_on(
    folder: Path, store: ArtifactStore, asked: Counter[str], clips: list[bytes], tmp_path: Path
) -> None:
    before = curated(folder, store)
    assert asked == {"embedded": 13, "transcoded": 13}
    asked.clear()
    (folder / "2.mp4").write_bytes(clips[6])
    changed = curated(folder, store)
    assert asked == {"embedded": 2, "transcoded": 2}
    asked.clear()
    (folder / "1.mp4").unlink()
    without = curated(folder, store)
    assert asked == {}
    # Put together from what is known, the bytes are those of a build from nothing.
    anew = contents(curated(folder, ArtifactStore(str(tmp_path / "anew"))))
    assert anew == contents(without) != contents(changed) != contents(before)


def test_a_video_that_goes_takes_its_own_shard_along_alone(
    folder: Path, asked: Counter[str], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    before = shards_of(curated(folder, store))
    (folder / "1.mp4").unlink()
    after = shards_of(curated(folder, store))
    assert {d: held for d, held in before.items() if "1.mp4" not in held}.items() <= after.items()
    assert len(before) > 3


def test_clips_depend_on_how_they_are_encoded_and_not_on_what_is_around_them(
    folder: Path, asked: Counter[str], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    curated(folder, store)
    asked.clear()
    (folder / "3.mp4").rename(folder / "renamed.mp4")
    curated(folder, store, replace(SHARDS, shard_samples=100), replace(LITE, target_scenes=3))
    assert asked == {}
    # The originals are 96 high: a larger side than that is no other question.
    curated(folder, store, replace(SHARDS, short_side=96))
    curated(folder, store, replace(SHARDS, short_side=320))
    assert asked == {"transcoded": 13}
    curated(folder, store, replace(SHARDS, crf=30), replace(LITE, size=48))
    assert asked == {"transcoded": 26, "embedded": 13}


def test_clips_that_are_gone_or_damaged_are_made_again(
    folder: Path, asked: Counter[str], clips: list[bytes], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    made = curated(folder, store)
    objects = tmp_path / "store" / "objects" / made["clip_shards"].content
    first, *_ = sorted(objects.glob("shards/*.tar"))
    row = next(r for r in made["clip_shards"].table("index.parquet") if r["shard"] == first.name)
    data = bytearray(first.read_bytes())
    data[row["offset"] + 40 : row["offset"] + 48] = b"damaged!"
    first.chmod(0o644)
    first.write_bytes(data)
    asked.clear()
    again = replace(SHARDS, shard_samples=100)
    one = curated(folder, store, again)
    assert asked["transcoded"] == 1
    shutil.rmtree(objects)
    asked.clear()
    two = curated(folder, store, replace(again, shard_samples=50))
    assert asked["transcoded"] == 12, "one of them lies in the newer artifact"
    assert one["clip_shards"].content == two["clip_shards"].content


@pytest.mark.parametrize(("model", "side"), [("dinov2", 56), ("efficientnet_lite0", 64)])
def test_a_vector_does_not_depend_on_who_else_is_in_its_batch(
    model: str, side: int, tmp_path: Path
) -> None:
    if model == "dinov2":
        tiny_dinov2(tmp_path / "dino")
    network: Embedder = load_embedder(model, str(tmp_path / "dino"))
    frames = [picture[:side, :side] for seed in range(7) for picture in moving(1, seed)]

    def vectors(order: list[int]) -> np.ndarray:
        some = (frames[n] for n in order)
        return np.stack(list(embeddings._embedded(some, 4, network, "cpu")))

    order = [4, 0, 6, 2, 5, 1, 3]
    assert (vectors(list(range(7)))[order] == vectors(order)).all()
    assert (vectors([3])[0] == vectors(list(range(7)))[3]).all()
