"""What a training drew is computed again from its seed, exactly: the same places as one by one, the
same counts however the run was resumed, up to each checkpoint; what replaced an unreadable sample
is what counts; of a trunk, what its cool-down took over."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from assets.cli.audit import lineage
from pipelines.curation.mixture import MIXTURE_INDEX
from pipelines.nodes import GRAPH
from pipelines.stage import Inputs
from pipelines.takedown import holdings
from pipelines.training import order
from pipelines.training.counters import first_uniforms
from pipelines.training.drawn import TABLE, Drawn, behind, checkpoint_of, rows
from pipelines.training.order import ClipSampler, uniforms
from pipelines.training.pretrain import build_main, run_cooldown, run_main
from pipelines.training.robot_windows import WindowSampler, read_episodes, split_held_out
from storage.artifacts import Artifact, ArtifactStore, Manifest
from storage.digests import digest_json
from storage.places import link_or_copy
from storage.tables import read_table, write_table
from tests.pipelines.builders import workspace
from tests.pipelines.training import material
from tests.pipelines.training.test_order import WEIGHTS, index
from tests.pipelines.training.test_pretrain import CPU


def file(
    store: ArtifactStore, folder: Path, name: str, config: Any, **inputs: Manifest
) -> Manifest:
    """What a stage left in a folder, as an artifact of a store."""
    asset, _, partition = name.partition("/")
    named = {key.replace("__", "/"): above for key, above in inputs.items()}
    asked = {
        "stage": asset, "version": 1,
        "config": config if isinstance(config, dict) else asdict(config),
        "inputs": {key: above.content for key, above in named.items()},
    }  # fmt: skip
    recipe = digest_json(asked)
    with store.work(recipe) as work:
        for path in folder.rglob("*"):
            if path.is_file():
                target = work / "payload" / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, target)
        parents = {key: (above.recipe, above.content) for key, above in named.items()}
        draft = {"asset": asset, "partition": partition or None, "recipe_inputs": asked}
        return store.seal(work, draft | {"recipe": recipe, "parents": parents, "record": {}})


class Trained:
    """A main phase of four steps with one unreadable clip, and a cool-down that branches off it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = material.mixture(folder / "mixture")
        self.store = store = ArtifactStore(str(folder / "store"), folder / "cache")
        listed = read_table(folder / "mixture" / "mix" / "index.parquet")
        told = [row | {"scene_id": f"scene {n // 2}", "video_id": f"video {n // 4}"}
                for n, row in enumerate(listed)]  # fmt: skip
        schema = {name: MIXTURE_INDEX[name] for name in told[0]}
        write_table(folder / "mixture" / "mix" / "index.parquet", told, schema)
        weights = {"weights": {"ssv2": 0.75, "imagenet": 0.25}}
        above = {
            "videomix22m": file(store, folder / "mixture" / "mix", "videomix22m", weights),
            "clip_shards__part": file(store, folder / "mixture" / "part", "clip_shards/part", {}),
        }
        films = [{"video_id": f"video {n}", "path": f"{n}.mp4", "sha256": f"{n}" * 64}
                 for n in (0, 1)]  # fmt: skip
        names = dict.fromkeys(("video_id", "path", "sha256"), "string")
        write_table(folder / "raw" / "videos.parquet", films, names)
        file(store, folder / "raw", "raw_videos/part", {})
        config, cooled = material.pretrain_config(), material.cooldown_config(from_step=2)
        out = workspace(folder / "trunk")
        run_main(config, Inputs(self.inputs), out)
        self.encoder = file(store, out.payload, "encoder", config, **above)
        inputs = Inputs({**self.inputs, "encoder": store.handle(self.encoder)})
        cold = workspace(folder / "cooled")
        run_cooldown(cooled, inputs, cold)
        self.cooled = file(
            store, cold.payload, "cooled_encoder", cooled, encoder=self.encoder, **above
        )
        self.probe = file(store, folder / "mixture" / "mix", "probe", config,
                          cooled_encoder=self.cooled)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def one_by_one(inputs: dict[str, Artifact], steps: range) -> list[int]:
    """How often each row was drawn, place by place as the training reads them."""
    task = build_main(material.pretrain_config(), Inputs(inputs), CPU)
    drawn = Counter(task.clips.taken(step, slot).row for step in steps for slot in range(4))
    assert task.clips.replacements, "a clip is broken"
    return [drawn[row] for row in range(6)]


def by_training(found: list[Drawn]) -> dict[str, Drawn]:
    assert len({d.training.asset for d in found}) == len(found)
    return {d.training.asset: d for d in found}


def test_places_are_those_of_the_generator() -> None:
    places = [(0, 0), (5, 17), (239_999, 3071)]
    for seed in (0, 239, (1 << 63) + 5):
        for step, slot in places:
            together = first_uniforms(seed, order._STREAM, step, slot)[0]
            assert together.tolist() == uniforms(seed, step, slot)[:4].tolist()
    sampler = ClipSampler(index(), WEIGHTS, 11)
    rows = [sampler.draw(step, slot).row for step in range(3, 9) for slot in range(7)]
    assert sampler.rows(range(3, 9), 7).tolist() == rows


def test_a_training_drew_what_stood_at_its_places_up_to_each_checkpoint(trained: Trained) -> None:
    [drawn] = behind(trained.store, trained.encoder)
    assert {s: c.tolist() for s, c in drawn.counts.items()} == {
        end: one_by_one(trained.inputs, range(end)) for end in (2, 4)
    }
    assert drawn.replaced > 0
    assert drawn.total[5] == 0, "the broken clip was never seen"
    assert drawn.total.sum() == 16
    [early] = behind(trained.store, trained.encoder, upto=2)
    assert early.steps == 2 and early.total.tolist() == drawn.counts[2].tolist()


def test_of_a_trunk_counts_what_its_branch_took_over(trained: Trained) -> None:
    for made in (trained.cooled, trained.probe):
        found = by_training(behind(trained.store, made))
        assert found["encoder"].steps == 2
        assert found["encoder"].total.sum() == 8
        assert found["cooled_encoder"].total.sum() == 4


def test_samples_are_listed_by_source_scene_and_file(trained: Trained) -> None:
    [drawn] = behind(trained.store, trained.encoder)
    table = rows(trained.store, drawn)
    assert dict(zip(table["key"], table["draws"], strict=True)) == {
        f"clip{row}": number for row, number in enumerate(drawn.total.tolist()) if number
    }
    assert set(table) == set(TABLE) and set(table["source"]) == {"ssv2", "imagenet"}
    assert set(table["scene"]) <= {"scene 0", "scene 1", "scene 2"}
    told = io.StringIO()
    lineage(trained.store, GRAPH, trained.encoder.content, None, told)
    assert "encoder drew 16 samples of videomix22m in 4 steps, " in told.getvalue()
    checkpoint = trained.encoder.file("checkpoints/step-000002/encoder.safetensors").digest
    told = io.StringIO()
    lineage(trained.store, GRAPH, checkpoint, trained.folder / "d.parquet", told)
    assert "encoder drew 8 samples of videomix22m in 2 steps" in told.getvalue()
    assert sum(row["draws"] for row in read_table(trained.folder / "d.parquet")) == 8


def test_who_saw_a_video_tells_how_often_at_each_checkpoint(trained: Trained) -> None:
    [drawn] = behind(trained.store, trained.encoder)
    held = {h.artifact.key: h.how for h in holdings(GRAPH, trained.store, "1.mp4")}
    early, late = (int(drawn.counts[step][4:].sum()) for step in (2, 4))
    by_step = f"its checkpoints: {early} by step 2, {late} by step 4"
    assert held[trained.encoder.key] == (
        f"drawn {late} times (2 clips through videomix22m): encoder {late} times in 4 steps; "
        f"{by_step}"
    )
    cooled = next(d for d in behind(trained.store, trained.cooled) if d.training == trained.cooled)
    more = int(cooled.total[4:].sum())
    assert held[trained.probe.key].startswith(f"drawn {early + more} times (2 clips")


def test_a_file_of_a_checkpoint_names_its_step() -> None:
    assert checkpoint_of("checkpoints/step-000650/encoder.safetensors") == 650
    assert checkpoint_of("log.parquet") is None


def test_windows_of_episodes_are_counted(tmp_path: Path) -> None:
    shards = {lab: material.episodes(tmp_path / lab, lab, 5) for lab in ("lab-a", "lab-b")}
    training, _ = split_held_out(read_episodes(shards), 0.3, 4)
    sampler = WindowSampler(training, 3, (1, 2, 3), seed=4)
    want = [sampler.window(step, slot).episode.key for step in range(2, 6) for slot in range(5)]
    assert [episode.key for episode in sampler.episodes(range(2, 6), 5)] == want
