"""Classes of training, and the three lines that scores give.

Shapes: Q actions that have a clip, C classes of a kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.anticipation.learning import KINDS
from pipelines.evaluation.anticipation.metrics import class_mean_recall, hits, leaderboard
from pipelines.evaluation.anticipation.protocol import AnticipationConfig
from pipelines.evaluation.anticipation.sampling import Mode
from pipelines.evaluation.anticipation.submission import ACTIONS, check_submission, submission
from pipelines.evaluation.anticipation.tables import Pair
from storage.artifacts import Artifact

LEADERBOARD_NOUNS = 300
"""Nouns of the leaderboard; the table of classes lists five more, which no segment has."""
_RESAMPLES = 200
Rights = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Asked:
    """All actions by their names, and the classes of those of training."""

    rows: Mapping[str, Mapping[str, Any]]
    verbs: tuple[int, ...]
    nouns: tuple[int, ...]
    pairs: tuple[Pair, ...]
    validation: tuple[str, ...]
    """Names of the actions of validation whose film there is."""

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Asked:
        """From rows of segments.parquet by side."""
        train = rows["train"]
        pairs = sorted({(row["verb"], row["noun"]) for row in train})
        return cls(
            {str(row["name"]): row for some in rows.values() for row in some},
            tuple(sorted({verb for verb, _ in pairs})), tuple(sorted({noun for _, noun in pairs})),
            tuple(pairs), tuple(str(row["name"]) for row in rows["validation"]),
        )  # fmt: skip

    @property
    def sizes(self) -> dict[str, int]:
        """Kind -> how many classes a head has."""
        return {"verb": len(self.verbs), "noun": len(self.nouns), "action": len(self.pairs)}

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        named = {"verb": self.verbs, "noun": self.nouns, "action": self.pairs}
        return {kind: {c: n for n, c in enumerate(some)} for kind, some in named.items()}

    def numbers(self, names: Sequence[str], kind: str) -> NDArray[np.int64]:
        """Class numbers of a head for some actions; -1 where training has no such class."""
        rows = [self.rows[name] for name in names]
        keys = [(r["verb"], r["noun"]) if kind == "action" else r[kind] for r in rows]
        return np.array([self._places[kind].get(key, -1) for key in keys], np.int64)

    def as_json(self) -> dict[str, Any]:
        """The map of classes, which a saved head needs."""
        return {"verbs": self.verbs, "nouns": self.nouns, "pairs": self.pairs}


def spread(right: NDArray[np.bool_], labels: Sequence[int], seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean-class recall over segments, percent."""
    random = np.random.Generator(np.random.PCG64(seed))
    keys = np.array(labels)
    drawn = [
        100 * class_mean_recall(keys[rows], right[rows])
        for rows in random.integers(len(right), size=(_RESAMPLES, len(right)))
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def lines_of(
    config: AnticipationConfig, asked: Asked, films: Artifact, shown: Mapping[Mode, Sequence[str]],
    found: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The contents of report.json."""
    told, absent = films.json("classes.json"), films.table("missing.parquet")
    known = [name for name in asked.validation if asked.numbers([name], "action")[0] >= 0]
    lines: dict[str, Any] = {}
    for variant in config.variants:
        scores = {mode: found[f"{mode}, {variant}"]["scores"] for mode in shown}
        rights = {mode: _rights(asked, shown[mode], scores[mode]) for mode in shown}
        lines[variant] = _three(config, asked, told, known, rights) | {
            "chosen": {mode: found[f"{mode}, {variant}"]["chosen"] for mode in shown},
            "optimistic": {
                kind: 100 * value
                for kind, value in found[f"official, {variant}"]["optimistic"].items()
            },
        }
    frequent = _frequent(asked)
    lines["most_frequent"] = _three(
        config, asked, told, known,
        {mode: _rights(asked, asked.validation, frequent) for mode in shown},
    )  # fmt: skip
    return {
        "data": "format-faithful synthetic" if films.record["media"] == "payload"
        else "the user's files, not compared with the published ones",
        "lines": lines,
        "headline": {
            variant: {
                "action": {
                    "official": line["official"]["action"]["recall"],
                    "leaderboard": line["leaderboard"]["overall_action_mt5r"],
                    "before_start": line["before_start"]["overall_action_mt5r"],
                }
            }
            for variant, line in lines.items()
        },
        "asked": len(asked.validation),
        "dropped": len(asked.validation) - len(known),
        "missing": dict(Counter(row["split"] for row in absent)),
        "classes": asked.sizes,
    }  # fmt: skip


def _rights(
    asked: Asked, names: Sequence[str], scores: Mapping[str, Any]
) -> dict[str, NDArray[np.bool_]]:
    """Kind -> whether each action of validation was among the five best; without a clip: no."""
    at = {name: place for place, name in enumerate(asked.validation)}
    rights = {kind: np.zeros(len(at), bool) for kind in KINDS}
    places = [at[name] for name in names]
    for kind in KINDS:
        told = np.asarray(scores[kind], dtype=np.float64)
        rights[kind][places] = hits(told, asked.numbers(names, kind))
    return rights


def _three(
    config: AnticipationConfig, asked: Asked, told: Mapping[str, Any], known: Sequence[str],
    rights: Mapping[Any, Rights],
) -> dict[str, Any]:  # fmt: skip
    rows = [asked.rows[name] for name in asked.validation]
    kept = np.isin(asked.validation, list(known))
    verbs, nouns = (np.array([row[kind] for row in rows]) for kind in ("verb", "noun"))
    labels = {"verb": verbs, "noun": nouns, "action": verbs * 1000 + nouns}
    unseen = np.isin([row["participant"] for row in rows], told["unseen"])
    official = {}
    for kind, truth in labels.items():
        right = rights["official"][kind][kept]
        low, high = spread(right, truth[kept].tolist(), config.seed)
        recall = 100 * class_mean_recall(truth[kept], right)
        official[kind] = {"recall": recall, "low": low, "high": high,
                          "accuracy": 100 * float(right.mean())}  # fmt: skip
    nine = {
        mode: leaderboard(
            rights[mode], verbs, nouns, unseen, told["tail_verbs"], told["tail_nouns"]
        )
        for mode in rights
    }
    low, high = spread(rights["fixed"]["action"], labels["action"].tolist(), config.seed)
    return {
        "official": official,
        "leaderboard": nine["official"],
        "before_start": {**nine["fixed"], "low": low, "high": high},
    }


def _frequent(asked: Asked) -> dict[str, Any]:
    """Scores that name the most frequent classes of training, whatever is seen."""
    train = [row for row in asked.rows.values() if row["split"] == "train"]
    names = [str(row["name"]) for row in train]
    found = {}
    for kind in KINDS:
        counted = Counter(asked.numbers(names, kind).tolist())
        scores = [counted[number] / len(train) for number in range(asked.sizes[kind])]
        found[kind] = [scores] * len(asked.validation)
    return found


def submitted(
    asked: Asked, films: Artifact, names: Sequence[str], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """The leaderboard's file, checked; an action without a clip has scores of 0."""
    told = films.json("classes.json")
    sizes = len(told["verbs"]), min(LEADERBOARD_NOUNS, len(told["nouns"]))
    at = {name: place for place, name in enumerate(names)}
    everything: list[str] = told["asked"]
    counted = dict(zip(KINDS, (*sizes, len(asked.pairs)), strict=True))
    wide = {kind: np.zeros((len(everything), count)) for kind, count in counted.items()}
    columns = {"verb": list(asked.verbs), "noun": list(asked.nouns),
               "action": list(range(len(asked.pairs)))}  # fmt: skip
    for row, name in enumerate(everything):
        if name in at:
            for kind in KINDS:
                wide[kind][row, columns[kind]] = scores[kind][at[name]]
    content = submission(everything, wide["verb"], wide["noun"], wide["action"], asked.pairs)
    check_submission(
        content, everything, verbs=sizes[0], nouns=sizes[1], actions=min(ACTIONS, len(asked.pairs))
    )
    return content
