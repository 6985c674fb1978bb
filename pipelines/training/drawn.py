"""What a training really drew: its samples with counts, up to any of its checkpoints.

The order of training is a function of (seed, step, slot), so what stood at every place is computed
again, whatever number of workers read it and however often the run was resumed. A sample that could
not be read was replaced by another one of its source: steps whose log counts replacements are read
again, and what replaced a sample is what counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.training.order import ClipSampler
from pipelines.training.robot_windows import Episode, WindowSampler, split_held_out
from storage.artifacts import Artifact, ArtifactStore, Manifest

_CHECKPOINT = re.compile(r"checkpoints/step-(\d{6,})/")
_BLOCK = 1 << 20  # draws counted at a time


@dataclass(frozen=True)
class Drawn:
    """What one training drew from one index."""

    training: Manifest
    index: Manifest
    """The mixture, or the shards of one lab."""
    counts: Mapping[int, NDArray[np.int64]]
    """Steps done at a checkpoint -> how often each row of index.parquet was drawn until then."""
    replaced: int
    """How many of them stand in for one that could not be read."""

    @property
    def steps(self) -> int:
        """Steps that are counted."""
        return max(self.counts)

    @property
    def total(self) -> NDArray[np.int64]:
        """How often each row was drawn in all."""
        return self.counts[self.steps]


def checkpoint_of(path: str) -> int | None:
    """The steps behind a file of a checkpoint; None for another file."""
    match = _CHECKPOINT.match(path)
    return int(match.group(1)) if match else None


def behind(store: ArtifactStore, manifest: Manifest, upto: int | None = None) -> list[Drawn]:
    """What every training behind an artifact drew, its own (up to a step) first.

    Of a trunk, what its branch took over counts and nothing after it. Trainings that keep no order
    (a study's arms) are left out: what they could draw is all that is known.
    """
    found: dict[str, tuple[Manifest, int | None]] = {}
    seen: set[tuple[str, int | None]] = set()
    queue: list[tuple[Manifest, int | None]] = [(manifest, upto)]
    while queue:
        at, until = queue.pop(0)
        if (at.key, until) in seen:
            continue
        seen.add((at.key, until))
        before = found.get(at.key, (at, 0))[1]
        longest = None if before is None or until is None else max(before, until)
        found[at.key] = at, longest
        for name, pair in at.parents.items():
            queue.append((store.manifest(*pair), _branched(store, at, name)))
    return [drawn for at, until in found.values() for drawn in _own(store, at, until)]


def _branched(store: ArtifactStore, manifest: Manifest, parent: str) -> int | None:
    """The step of a trunk that a cool-down branched off; None where all of a parent counts."""
    if parent.partition("/")[0] not in ("encoder", "control_encoder") or not _trained(manifest):
        return None
    described = store.handle(manifest).json("model.json")["architecture"]
    return described.get("first_step")


def _trained(manifest: Manifest) -> bool:
    return {"model.json", "log.parquet"} <= manifest.by_path.keys()


def _own(store: ArtifactStore, manifest: Manifest, upto: int | None) -> Iterator[Drawn]:
    """What a training drew itself; nothing of what is none."""
    config = manifest.recipe_inputs.get("config", {})
    config = config.get("main") or config.get("cooldown") or config
    if not _trained(manifest) or not {"seed", "batch"} <= config.keys():
        return
    ends = {step for path in manifest.by_path if (step := checkpoint_of(path))}
    ends = {step for step in ends if upto is None or step <= upto}
    if not ends:
        return
    parents = {name: store.manifest(*pair) for name, pair in manifest.parents.items()}
    if "videomix22m" in parents:
        yield _clips(store, manifest, config, parents, sorted(ends))
    else:
        yield from _windows(store, manifest, config, parents, sorted(ends))


# ---------------------------------------------------------------- clips of a mixture


def _clips(
    store: ArtifactStore,
    manifest: Manifest,
    config: Mapping[str, Any],
    parents: Mapping[str, Manifest],
    ends: list[int],
) -> Drawn:
    mixture, trained = store.handle(parents["videomix22m"]), store.handle(manifest)
    first = trained.json("model.json")["architecture"].get("first_step", 0)
    weights = mixture.json("mixture.json")["weights"]
    if config.get("sources") is not None:
        weights = {source: weights[source] for source in config["sources"]}
    columns = mixture.columns("index.parquet", ["source", "weight"])
    sampler = ClipSampler(columns, weights, config["seed"])
    moved = _moved(store, trained, config, parents, sampler, first, ends[-1])
    counts, done = np.zeros(len(columns["weight"]), np.int64), 0
    found = {}
    for end in ends:
        counts = counts + _counted(sampler, range(first + done, first + end), config["batch"],
                                   len(counts))  # fmt: skip
        for (step, row), number in moved.items():
            if done <= step < end:
                counts[row] += number
        found[end], done = counts, end
    replaced = sum(number for number in moved.values() if number > 0)
    return Drawn(manifest, parents["videomix22m"], found, replaced)


def _counted(sampler: ClipSampler, steps: range, batch: int, rows: int) -> NDArray[np.int64]:
    counts = np.zeros(rows, np.int64)
    block = max(1, _BLOCK // batch)
    for start in range(steps.start, steps.stop, block):
        part = range(start, min(start + block, steps.stop))
        counts += np.bincount(sampler.rows(part, batch), minlength=rows)
    return counts


def _moved(
    store: ArtifactStore,
    trained: Artifact,
    config: Mapping[str, Any],
    parents: Mapping[str, Manifest],
    sampler: ClipSampler,
    first: int,
    steps: int,
) -> Counter[tuple[int, int]]:
    """(step, row) -> how many draws it lost (below 0) or took over, in steps that replaced any."""
    log = trained.columns("log.parquet", ["step", "replaced_clips"])
    where = [int(s) - 1 for s, n in zip(log["step"], log["replaced_clips"], strict=True) if n]
    moved: Counter[tuple[int, int]] = Counter()
    if not where:
        return moved
    from pipelines.training.clips import ClipConfig, ClipLoader  # torch, only where it is needed

    shards = {
        name.partition("/")[2]: store.handle(parent)
        for name, parent in parents.items()
        if name.startswith("clip_shards/")
    }
    index = store.handle(parents["videomix22m"]).columns("index.parquet")
    # JSON knows no tuples.
    clip: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["clip"].items()
    }
    loader = ClipLoader(index, shards, sampler, ClipConfig(**clip))
    for step in (step for step in where if step < steps):
        for slot in range(config["batch"]):
            planned, taken = (
                sampler.draw(first + step, slot).row, loader.taken(first + step, slot).row
            )  # fmt: skip
            if planned != taken:
                moved[step, planned] -= 1
                moved[step, taken] += 1
    return moved


# ---------------------------------------------------------------- windows of robot episodes


def _windows(
    store: ArtifactStore,
    manifest: Manifest,
    config: Mapping[str, Any],
    parents: Mapping[str, Manifest],
    ends: list[int],
) -> Iterator[Drawn]:
    labs = {
        name.partition("/")[2]: store.handle(parent)
        for name, parent in sorted(parents.items())
        if name.startswith("episode_shards/")
    }
    if not labs or not {"frames", "strides", "held_out"} <= config.keys():
        return
    training, _ = split_held_out(_listed(labs), config["held_out"], config["seed"])
    windows = WindowSampler(training, config["frames"], config["strides"], config["seed"])
    drawn: Counter[tuple[str, int]] = Counter()
    found: dict[str, dict[int, NDArray[np.int64]]] = {lab: {} for lab in labs}
    done = 0
    sizes = {
        lab: len(shards.columns("index.parquet", ["key"])["key"]) for lab, shards in labs.items()
    }
    for end in ends:
        for episode in windows.episodes(range(done, end), config["batch"]):
            drawn[episode.lab, episode.row["row"]] += 1
        done = end
        for lab, size in sizes.items():
            found[lab][end] = np.array([drawn[lab, row] for row in range(size)], np.int64)
    for lab, counts in found.items():
        yield Drawn(manifest, labs[lab].manifest, counts, 0)


def _listed(labs: Mapping[str, Artifact]) -> list[Episode]:
    """All episodes, as `read_episodes` has them, without reading what their arms did."""
    found: list[Episode] = []
    for lab, shards in labs.items():
        columns = shards.columns("index.parquet", ["key", "frames"])
        for row, (key, frames) in enumerate(zip(columns["key"], columns["frames"], strict=True)):
            states = np.broadcast_to(np.zeros(7), (int(frames), 7))
            found.append(Episode(str(key), lab, shards, {"row": row}, states, 0))
    return found


# ---------------------------------------------------------------- telling it


TABLE = {
    "training": "string", "through": "string", "step": "int64", "source": "string",
    "partition": "string", "video": "string", "scene": "string", "key": "string", "draws": "int64",
}  # fmt: skip
"""Columns of what `rows` gives; `video` and `key` are an episode's id and key where it is one."""


def rows(store: ArtifactStore, drawn: Drawn) -> dict[str, NDArray[Any]]:
    """Columns of TABLE: every sample that was drawn at least once, with how often."""
    robots = drawn.index.asset == "episode_shards"
    names = ("key", "lab", "episode") if robots else (
        "key", "source", "video_id", "partition", "scene_id")  # fmt: skip
    have = store.handle(drawn.index).columns("index.parquet", names)
    taken = np.flatnonzero(drawn.total)
    told = {name: column[taken] for name, column in have.items()}
    size = len(taken)
    return {
        "training": np.full(size, drawn.training.name, object),
        "through": np.full(size, drawn.index.name, object),
        "step": np.full(size, drawn.steps, np.int64),
        "source": told["lab" if robots else "source"],
        "partition": np.full(size, drawn.index.partition, object) if robots else told["partition"],
        "video": told["episode" if robots else "video_id"],
        "scene": np.full(size, "", object) if robots else told["scene_id"],
        "key": told["key"],
        "draws": drawn.total[taken],
    }


def of_keys(store: ArtifactStore, drawn: Drawn, keys: tuple[str, ...]) -> dict[int, int]:
    """Steps done at each checkpoint -> how often samples of these keys were drawn until then."""
    have = store.handle(drawn.index).columns("index.parquet", ["key"])["key"]
    wanted = np.flatnonzero(np.isin(have.astype(str), list(keys)))
    return {step: int(counts[wanted].sum()) for step, counts in drawn.counts.items()}
