"""An auditor's questions: which videos made this checkpoint, and which checkpoints saw this video.

What curation dropped, what is held out and what has weight 0 was not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.clip_shards import INDEX
from pipelines.curation.mixture import MIXTURE_INDEX
from pipelines.curation.probing import COLUMNS
from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.lineage import (
    checkpoints_that_saw,
    descendants,
    find_sources,
    sources,
)
from pipelines.nodes import GRAPH, PROFILES
from pipelines.robot.droid import EPISODES
from pipelines.robot.episode_shards import INDEX as EPISODE_INDEX
from pipelines.takedown import ban, concerned, holdings
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.digests import digest_bytes, digest_json
from storage.tables import write_table
from storage.takedowns import TakedownError

ZEROS: Mapping[str, Any] = {
    "string": "", "int32": 0, "int64": 0, "float32": 0.0, "float64": 0.0, "bool": False
}  # fmt: skip
WEIGHTS = {"yt1b": 0.5, "ssv2": 0.5, "imagenet": 0.0}


def rows(schema: Mapping[str, str], *given: Mapping[str, Any]) -> list[dict[str, Any]]:
    blank = {name: ZEROS[kind] for name, kind in schema.items()}
    return [{**blank, **row} for row in given]


def video(name: str) -> str:
    """The id of the video `<name>.mp4`, whose bytes are its name."""
    return digest_bytes(name.encode())[:32]


class House:
    """A store with the shape of the real graph and one clip or two per video."""

    def __init__(self, location: str, cache: Path) -> None:
        self.store = ArtifactStore(location, cache)

    def put(
        self,
        name: str,
        files: Mapping[str, bytes | tuple[list[dict[str, Any]], Mapping[str, str]]],
        config: Mapping[str, Any],
        *inputs: Manifest,
    ) -> Manifest:
        asset, _, partition = name.partition("/")
        asked = {
            "stage": asset, "version": 1, "partition": partition or None, "config": dict(config),
            "inputs": {above.name: above.content for above in inputs},
        }  # fmt: skip
        recipe = digest_json(asked)
        with self.store.work(recipe) as work:
            for path, held in files.items():
                target = work / "payload" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(held, bytes):
                    target.write_bytes(held)
                else:
                    write_table(target, *held)
            parents = {above.name: (above.recipe, above.content) for above in inputs}
            draft = {"asset": asset, "partition": partition or None, "recipe_inputs": asked}
            draft |= {"recipe": recipe, "parents": parents, "record": {}}
            return self.store.seal(work, draft)

    def source(self, partition: str, videos: list[str], clips: list[dict[str, Any]]) -> Manifest:
        """raw_videos → scenes → clip_shards of one partition; a clip is {key, of, weight}."""
        listed = rows(COLUMNS, *(
            {"video_id": video(v), "path": f"{partition}/{v}.mp4",
             "sha256": digest_bytes(v.encode())}
            for v in videos
        ))  # fmt: skip
        raw = self.put(f"raw_videos/{partition}", {"videos.parquet": (listed, COLUMNS)}, {})
        spans = rows(SCENES, *({"video_id": video(v), "scene_id": f"{v}-0"} for v in videos))
        cut = self.put(f"scenes/{partition}", {"scenes.parquet": (spans, SCENES)}, {}, raw)
        index = rows(INDEX, *(
            {"key": c["key"], "video_id": video(c["of"]), "weight": c.get("weight", 1.0),
             "source": partition.split("-")[0], "shard": "000000.tar"}
            for c in clips
        ))  # fmt: skip
        files = {"index.parquet": (index, INDEX), "shards/000000.tar": f"tar {partition}".encode()}
        return self.put(f"clip_shards/{partition}", files, {"fps": 8}, raw, cut)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def built(house: House) -> dict[str, Manifest]:
    """Everything, by asset name; the videos' names say what became of them."""
    clips = [
        {"key": "k1", "of": "twice"},
        {"key": "k2", "of": "twice"},
        {"key": "k3", "of": "once"},
    ]
    shards = [
        house.source("yt1b-00", ["twice", "once", "dropped"], clips),
        house.source("ssv2", ["plain", "held-out"], [
            {"key": "k4", "of": "plain"}, {"key": "k5", "of": "held-out", "weight": 0.0}
        ]),
        house.source("imagenet", ["weightless"], [{"key": "k6", "of": "weightless"}]),
    ]  # fmt: skip
    listed = {
        "yt1b-00": [("k1", "twice", 1.0), ("k2", "twice", 3.0), ("k3", "once", 1.0)],
        "ssv2": [("k4", "plain", 1.0), ("k5", "held-out", 0.0)],
        "imagenet": [("k6", "weightless", 1.0)],
    }
    index = rows(MIXTURE_INDEX, *(
        {"key": key, "video_id": video(of), "weight": weight, "partition": partition,
         "source": partition.split("-")[0]}
        for partition, held in listed.items()
        for key, of, weight in held
    ))  # fmt: skip
    mix = house.put(
        "videomix22m", {"index.parquet": (index, MIXTURE_INDEX)}, {"weights": WEIGHTS}, *shards
    )
    encoder = house.put(
        "encoder", {"step-000010/encoder.safetensors": b"weights", "model.json": b"{}"},
        {"lr": 0.001}, mix, *shards,
    )  # fmt: skip
    other = house.put("encoder", {"f": b"other weights"}, {"lr": 0.002}, mix, *shards)
    episodes = rows(
        EPISODES, {"episode": "e-1", "mp4": "recordings/MP4/1.mp4", "mp4_sha256": "e" * 64}
    )
    droid = house.put("droid_episodes/lab-a", {"episodes.parquet": (episodes, EPISODES)}, {})
    index = rows(EPISODE_INDEX, {"key": "r1", "episode": "e-1", "shard": "000000.tar"})
    files = {"index.parquet": (index, EPISODE_INDEX), "shards/000000.tar": b"tar lab-a"}
    robots = house.put("episode_shards/lab-a", files, {}, droid)
    world = house.put("world_model", {"world_model.safetensors": b"dreams"}, {}, encoder, robots)
    return {
        "mix": mix, "encoder": encoder, "other": other, "world": world, "robots": robots,
        "yt1b": shards[0], "droid": droid,
    }  # fmt: skip


def seen_by(house: House, what: str) -> dict[str, tuple[str, ...]]:
    return {s.artifact.content: s.clips for s in checkpoints_that_saw(house.store, what)}


def test_the_videos_behind_a_checkpoint_are_those_that_training_could_draw(
    house: House, built: dict[str, Manifest]
) -> None:
    behind = {(s.listed.name, s.path): s.clips for s in sources(house.store, built["encoder"])}
    assert behind == {
        ("raw_videos/ssv2", "ssv2/plain.mp4"): 1,
        ("raw_videos/yt1b-00", "yt1b-00/twice.mp4"): 2,
        ("raw_videos/yt1b-00", "yt1b-00/once.mp4"): 1,
    }
    more = {s.identity: s.clips for s in sources(house.store, built["world"])}
    assert more["e-1"] == 1
    assert len(more) == 4


def test_what_lies_before_training_has_all_that_its_raw_videos_list(
    house: House, built: dict[str, Manifest]
) -> None:
    listed = [s.path for s in sources(house.store, built["yt1b"])]
    assert listed == [f"yt1b-00/{name}.mp4" for name in ("twice", "once", "dropped")]


@pytest.mark.parametrize(
    "name", [video("twice"), digest_bytes(b"twice"), digest_bytes(b"twice")[:9], "twice.mp4",
             "yt1b-00/twice.mp4"]
)  # fmt: skip
def test_a_video_is_found_by_id_digest_and_path(
    house: House, built: dict[str, Manifest], name: str
) -> None:
    (found,) = find_sources(house.store, name)
    assert found.identity == video("twice")
    assert found.listed.name == "raw_videos/yt1b-00"
    assert seen_by(house, name) == {
        built[asset].content: ("k1", "k2") for asset in ("encoder", "other", "world")
    }


@pytest.mark.parametrize("name", ["dropped", "held-out", "weightless"])
def test_what_training_could_not_draw_was_not_seen(
    house: House, built: dict[str, Manifest], name: str
) -> None:
    assert find_sources(house.store, f"{name}.mp4")
    assert checkpoints_that_saw(house.store, f"{name}.mp4") == []


def test_a_robot_recording_was_seen_by_the_world_model_alone(
    house: House, built: dict[str, Manifest]
) -> None:
    assert seen_by(house, "e-1") == {built["world"].content: ("r1",)}
    (sighting,) = checkpoints_that_saw(house.store, "e" * 64)
    assert sighting.index == built["robots"]


def test_descendants_come_nearest_first_each_once(house: House, built: dict[str, Manifest]) -> None:
    below = [m.name for m in descendants(house.store, built["yt1b"])]
    assert sorted(below) == ["encoder", "encoder", "videomix22m", "world_model"]
    assert below[-1] == "world_model"
    assert descendants(house.store, built["world"]) == []


def test_a_child_found_again_under_another_question_still_counts(
    house: House, built: dict[str, Manifest]
) -> None:
    files = {"index.parquet": (rows(EPISODE_INDEX, {"key": "r1", "episode": "e-1", "shard":
             "000000.tar"}), EPISODE_INDEX), "shards/000000.tar": b"tar lab-a"}  # fmt: skip
    again = house.put("episode_shards/lab-a", files, {"asked": "differently"}, built["droid"])
    assert again.content == built["robots"].content
    assert [m.name for m in descendants(house.store, again)] == ["world_model"]


def test_only_tables_are_fetched_from_s3(s3_store: str, tmp_path: Path) -> None:
    here = House(s3_store, tmp_path / "here")
    shards = here.source("yt1b-00", ["twice"], [{"key": "k1", "of": "twice"}])
    clip = {"key": "k1", "video_id": video("twice"), "weight": 1.0, "source": "yt1b"}
    index = rows(MIXTURE_INDEX, clip | {"partition": "yt1b-00"})
    files = {"index.parquet": (index, MIXTURE_INDEX)}
    mix = here.put("videomix22m", files, {"weights": WEIGHTS}, shards)
    encoder = here.put("encoder", {"f": b"weights"}, {}, mix, shards)
    there = ArtifactStore(s3_store, tmp_path / "there")
    assert [s.artifact for s in checkpoints_that_saw(there, "twice.mp4")] == [encoder]
    assert [s.path for s in sources(there, encoder)] == ["yt1b-00/twice.mp4"]
    fetched = {path.name for path in there.local.rglob("objects/**/*") if path.is_file()}
    assert fetched == {"videos.parquet", "index.parquet"}


def test_a_video_that_the_store_does_not_list_is_told(house: House) -> None:
    with pytest.raises(ArtifactError, match="give a video id, a sha256"):
        checkpoints_that_saw(house.store, "unheard-of.mp4")


def test_who_saw_a_video_and_how(house: House, built: dict[str, Manifest]) -> None:
    held = {h.artifact.key: h.how for h in holdings(GRAPH, house.store, "twice.mp4")}
    assert held[built["yt1b"].key] == "2 stored clips"
    assert held[built["mix"].key] == "2 listed clips"
    assert held[built["world"].key] == "training could draw 2 clips of it through videomix22m"
    names = [h.artifact.name for h in holdings(GRAPH, house.store, "dropped.mp4")]
    assert names == ["raw_videos/yt1b-00", "scenes/yt1b-00"]
    assert [h.artifact.name for h in holdings(GRAPH, house.store, "e-1")] == [
        "droid_episodes/lab-a", "episode_shards/lab-a", "world_model"
    ]  # fmt: skip


def test_a_takedown_concerns_what_was_made_from_its_partition_and_nothing_else(
    house: House, built: dict[str, Manifest], tmp_path: Path
) -> None:
    for manifest in house.store.manifests():
        house.store.set_ref(manifest.asset, manifest.partition, manifest)
    line = ban(house.store, str(tmp_path / "list.json"), "once.mp4", "withdrawn", "2026-01-31")
    stale = concerned(GRAPH, PROFILES["demo"], house.store, line)
    assert set(stale) == {
        *((asset, "yt1b-00") for asset in ("raw_videos", "scenes", "clip_shards")),
        ("videomix22m", None), ("encoder", None), ("world_model", None),
    }  # fmt: skip
    with pytest.raises(TakedownError, match="is a recording of droid_episodes/lab-a"):
        ban(house.store, str(tmp_path / "list.json"), "e-1", "withdrawn", "2026-01-31")
