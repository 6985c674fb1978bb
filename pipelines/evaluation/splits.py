"""Labelled clips of a source: which are learned from, at each budget of labels, and which are asked
about.

Budgets are beginnings of one order of the training clips, so a smaller one lies inside a larger
one. The order depends on (seed, key) and on the classes alone: the first clip of every class, then
clips such that every beginning holds the classes in their shares. Hyperparameters are chosen inside
a budget; the test clips are of the other side of the source's split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipelines.curation.labels import SPLITS
from pipelines.node import source_of
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.errors import InputError

SIDES = SPLITS
"""Of what is learned from, and of what is asked about."""
_INDEX = (
    "key",
    "label",
    "split",
    "shard",
    "offset",
    "size",
    "fps",
    "frames",
    "source",
    "kind",
    "digest",
)


@dataclass(frozen=True)
class LabelledClip:
    """A clip of the shards, its class and its side of the split."""

    key: str
    label: str
    split: str
    shards: Artifact
    shard: str
    offset: int
    size: int
    digest: int
    fps: float
    frames: int


@dataclass(frozen=True)
class Split:
    """The clips of a probe, each side in its order: n labels are those of the first n of train."""

    source: str
    train: tuple[LabelledClip, ...]
    test: tuple[LabelledClip, ...]
    budgets: tuple[int, ...]

    @classmethod
    def of(
        cls, source: str, clips: Sequence[LabelledClip], *, labels: tuple[int, ...] | None,
        test: int | None, seed: int,
    ) -> Split:  # fmt: skip
        """Choose among a source's clips.

        Args:
            source: their source.
            clips: all labelled clips of it.
            labels: budgets, rising; None: one, of all training clips.
            test: how many validation clips to ask about, at most; None: all of them.
            seed: of the order.

        Raises:
            InputError: the clips cannot be probed with these budgets.
        """
        sides = {side: {c.key: c for c in clips if c.split == side} for side in SIDES}
        named = {side: {k: c.label for k, c in some.items()} for side, some in sides.items()}
        check_labels(source, named["train"].values(), named["validation"].values(), labels)
        order = {side: in_order(some, seed) for side, some in named.items()}
        budgets = labels or (len(order["train"]),)
        return cls(
            source,
            tuple(sides["train"][key] for key in order["train"][: budgets[-1]]),
            tuple(sides["validation"][key] for key in order["validation"][:test]),
            budgets,
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a class's number is its place."""
        return tuple(sorted({clip.label for clip in self.train}))

    def numbers(self, clips: Sequence[LabelledClip]) -> tuple[int, ...]:
        """Class numbers of some clips."""
        number = {name: index for index, name in enumerate(self.classes)}
        return tuple(number[clip.label] for clip in clips)

    @cached_property
    def train_labels(self) -> tuple[int, ...]:
        """Class numbers of the training clips."""
        return self.numbers(self.train)

    @cached_property
    def test_labels(self) -> tuple[int, ...]:
        """Class numbers of the test clips."""
        return self.numbers(self.test)


def labelled_clips(parts: Mapping[str, Artifact], source: str) -> list[LabelledClip]:
    """The labelled videos of one source in `clip_shards` (by partition), in order of their keys.

    A video that is stored in pieces (`clip_shards.piece_seconds`) gives a clip for each of them.
    """
    clips = [
        LabelledClip(
            row["key"], row["label"], row["split"],
            artifact, f"shards/{row['shard']}",
            row["offset"], row["size"], row["digest"], row["fps"], row["frames"],
        )
        for partition, artifact in parts.items()
        if source_of(partition) == source
        for row in artifact.table("index.parquet", _INDEX)
        if row["kind"] == "video" and row["label"] and row["split"] in SIDES
    ]  # fmt: skip
    return sorted(clips, key=lambda clip: clip.key)


def check_labels(
    source: str, train: Iterable[str], test: Iterable[str], labels: tuple[int, ...] | None
) -> None:
    """Refuse a source whose labels do not make a probe.

    Args:
        source: its name.
        train: labels of its training clips.
        test: labels of its validation clips.
        labels: the budgets that are asked for; None: all.

    Raises:
        InputError: there are no labels, a class or a side of the split is missing, or fewer clips
            than a budget or than classes.
    """
    taught, asked = list(train), set(test)
    classes = sorted(set(taught))
    if not taught and not asked:
        raise InputError(
            f"source {source} cannot be probed: its videos have no labels; give it a labels.csv "
            "(path,label,split), or leave it out of probe_report.sources"
        )
    if len(classes) < 2 or not asked:
        raise InputError(
            f"source {source} cannot be probed ({len(classes)} classes in train, {len(asked)} in "
            "validation): it needs labelled videos of two or more classes on both sides"
        )
    if unknown := sorted(asked - set(classes)):
        raise InputError(
            f"source {source}: class {unknown[0]} is in validation and never in train; "
            "no probe can learn it"
        )
    if not labels:
        return
    if labels[0] < len(classes):
        raise InputError(
            f"probe_report.labels asks for {labels[0]} labelled clips of {source}, fewer than its "
            f"{len(classes)} classes: give at least {len(classes)}"
        )
    if labels[-1] > len(taught):
        raise InputError(
            f"probe_report.labels asks for {labels[-1]} labelled clips of {source}, which has "
            f"{len(taught)} to train on: ask for fewer, or give it more labelled videos"
        )


def in_order(labels: Mapping[str, str], seed: int) -> list[str]:
    """The keys (key -> class) in an order whose every beginning is stratified; see above."""
    by_class: dict[str, list[tuple[float, str]]] = {}
    for key, label in labels.items():
        by_class.setdefault(label, []).append((unit_interval(seed, key), key))
    places = []
    for draws in by_class.values():
        for rank, (draw, key) in enumerate(sorted(draws)):
            places.append((rank > 0, (rank + 0.5) / len(draws), draw, key))
    return [key for *_, key in sorted(places)]
