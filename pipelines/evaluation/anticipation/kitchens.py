"""Kitchens that were never filmed, in the files of EPIC-KITCHENS-100, with known answers.

What will be done shows before it is: until a little before an action the camera moves in one of
four ways, which tells the verb, over one of three looks, which tells the noun; while it is done the
camera does something else. Films have the rates that the real ones have (60, 59.94, 50, 30), frame
columns number published pictures at 60 or 50 a second, as the real tables do, and two of the twelve
actions are in no training film. "Format-faithful synthetic": no number of theirs is one of the
benchmark.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.curation.camera import MOVES
from pipelines.curation.shots import Pixels, Shot, draw, stream
from pipelines.evaluation.anticipation.tables import (
    COLUMNS,
    TAIL_NOUNS,
    TAIL_VERBS,
    TRAIN,
    UNSEEN,
    VALIDATION,
)
from storage.video import encode

VERBS, NOUNS = ("take", "put", "wash", "open"), ("tap", "plate", "cupboard")
_LOOKS, _RATES = ("bricks", "foliage", "tiles"), (60.0, 60000 / 1001, 50.0, 30.0)
_LEAD, _LASTS, _SIDE, _DRAWN = 2.6, 1.2, 32, 15  # seconds, seconds, pixels, pictures a second
NEVER_TRAINED = ((2, 2), (3, 0))
"""Verb and noun of the actions that are in validation alone."""


@dataclass(frozen=True)
class Kitchen:
    """One film and the actions in it, each after a lead."""

    seed: int
    index: int
    split: str
    actions: tuple[tuple[int, int], ...]

    @property
    def participant(self) -> str:
        """P01 to P03 are in both sides, P18 in validation alone."""
        unseen = self.split != "train" and self.index % 4 == 3
        return "P18" if unseen else f"P{1 + self.index % 3:02d}"

    @property
    def video(self) -> str:
        """Its id; films of 50 a second are of the later set, as in the data set."""
        late = "1" if self.fps == 50.0 else ""
        return f"{self.participant}_{late}{self.index % 100:02d}"

    @property
    def path(self) -> str:
        """Where the data set has it."""
        return f"{self.participant}/videos/{self.video}.MP4"

    @property
    def fps(self) -> float:
        """Frames a second of the film."""
        return _RATES[self.index % len(_RATES)]

    def spans(self) -> Iterator[tuple[float, float]]:
        """Start and stop of each action, seconds."""
        for number in range(len(self.actions)):
            start = number * (_LEAD + _LASTS) + _LEAD
            yield start, start + _LASTS


def kitchens_of(train: int, validation: int, seed: int, actions: int = 4) -> list[Kitchen]:
    """Films of both sides, so many, each with some actions, all pairs in turn."""
    pairs = list(itertools.product(range(len(VERBS)), range(len(NOUNS))))
    known = [pair for pair in pairs if pair not in NEVER_TRAINED]
    made = []
    for index in range(train + validation):
        split = "train" if index < train else "validation"
        pool = known if split == "train" else pairs
        random = stream("kitchen", seed, index)
        chosen = [pool[int(random.integers(len(pool)))] for _ in range(actions)]
        if split == "train":  # every action that is trained is there often enough
            chosen = [known[(index * actions + n) % len(known)] for n in range(actions)]
        made.append(Kitchen(seed, index, split, tuple(chosen)))
    return made


def filmed(kitchen: Kitchen) -> bytes:
    """The bytes of a film."""
    return encode(_frames(kitchen), kitchen.fps, keyframes=2.0).data


def _frames(kitchen: Kitchen) -> Iterator[Pixels]:
    drawn = _drawn(kitchen)
    seconds = len(kitchen.actions) * (_LEAD + _LASTS)
    for number in range(int(seconds * kitchen.fps)):
        yield drawn[min(len(drawn) - 1, int(number / kitchen.fps * _DRAWN))]


def _drawn(kitchen: Kitchen) -> list[Pixels]:
    """Pictures of the whole film, some a second: a lead and an action, in turn."""
    frames: list[Pixels] = []
    for number, (verb, noun) in enumerate(kitchen.actions):
        key = ("kitchen", kitchen.seed, kitchen.index, number)
        random = stream(*key)
        other = MOVES[4 + int(random.integers(4))]
        for part, move, seconds in (("lead", MOVES[verb], _LEAD), ("done", other, _LASTS)):
            shot = Shot((*key, part), _LOOKS[noun], move, seconds)
            frames += list(draw(shot, _SIDE, _SIDE, _DRAWN))
    return [np.ascontiguousarray(frame) for frame in frames]


def annotation_files(kitchens: Sequence[Kitchen]) -> dict[str, bytes]:
    """Name -> bytes of the data set's own tables, which list these films."""
    files = {
        name: ",".join(COLUMNS) + "\n" + "".join(_rows(kitchens, split))
        for name, split in ((TRAIN, "train"), (VALIDATION, "validation"))
    }
    for name, keys in (("verb_classes", VERBS), ("noun_classes_v2", NOUNS)):
        rows = "".join(f"{n},{key},\"['{key}']\",made\n" for n, key in enumerate(keys))
        files[f"EPIC_100_{name}.csv"] = f"id,key,instances,category\n{rows}"
    files["EPIC_100_video_info.csv"] = "video_id,duration,fps,resolution\n" + "".join(
        f"{k.video},{len(k.actions) * (_LEAD + _LASTS):.6f},{k.fps},{_SIDE}x{_SIDE}\n"
        for k in kitchens
    )
    files |= {UNSEEN: "participant_id\nP18\n", TAIL_VERBS: "verb\n3\n", TAIL_NOUNS: "noun\n2\n"}
    return {name: text.encode() for name, text in files.items()}


def _rows(kitchens: Sequence[Kitchen], split: str) -> Iterator[str]:
    for kitchen in kitchens:
        if kitchen.split != split:
            continue
        published = 50 if kitchen.fps == 50.0 else 60
        pairs = zip(kitchen.spans(), kitchen.actions, strict=True)
        for number, ((start, stop), (verb, noun)) in enumerate(pairs):
            clocks = [f"00:{int(t // 60):02d}:{t % 60:05.2f}" for t in (start, start, stop)]
            first, last = (max(1, int(t * published)) for t in (start, stop))
            yield (
                f"{kitchen.video}_{number},{kitchen.participant},{kitchen.video},"
                f"{','.join(clocks)},{first},{last},{VERBS[verb]} {NOUNS[noun]},{VERBS[verb]},"
                f"{verb},{NOUNS[noun]},{noun},['{NOUNS[noun]}'],[{noun}]\n"
            )
