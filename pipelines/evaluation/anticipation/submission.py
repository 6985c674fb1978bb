"""The leaderboard's submission file of action anticipation: written, and checked before it leaves.

    {"version": "0.2", "challenge": "action_anticipation", "sls_pt": 2, "sls_tl": 3, "sls_td": 3,
     "results": {narration_id: {"verb": {"0": score, ...}, "noun": {...}, "action": {"v,n": ...}}}}

Exactly 97 verbs, 300 nouns and 100 actions a segment, and every segment that is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluation.anticipation.metrics import Floats, top
from pipelines.evaluation.anticipation.tables import Pair
from storage.errors import InputError

ACTIONS = 100
CHALLENGE = {"version": "0.2", "challenge": "action_anticipation"}
_LEVELS = ("sls_pt", "sls_tl", "sls_td")


def action_scores(verbs: Floats, nouns: Floats, count: int = ACTIONS) -> list[tuple[Pair, float]]:
    """The best actions where none are told: products of softmax over the best verbs and nouns.

    Args:
        verbs: [V] logits; nouns: [N] logits, of one segment.
        nouns: see above.
        count: of the best of each, and of actions.
    """
    chances, places = [], []
    for logits in (verbs, nouns):
        best = top(logits[None], count)[0]
        powers = np.exp(logits[best] - logits[best].max())
        chances.append(powers / powers.sum())
        places.append(best)
    products = np.outer(*chances).ravel()
    best = top(products[None], count)[0]
    width = len(places[1])
    return [
        ((int(places[0][at // width]), int(places[1][at % width])), float(products[at]))
        for at in best.tolist()
    ]


def submission(
    names: Sequence[str], verbs: Floats, nouns: Floats, actions: Floats | None = None,
    pairs: Sequence[Pair] = (), *, levels: tuple[int, int, int] = (2, 3, 3),
) -> dict[str, Any]:  # fmt: skip
    """The file's contents.

    Args:
        names: narration ids, [B].
        verbs: [B, V] scores; nouns: [B, N] scores.
        nouns: see above.
        actions: [B, A] scores of the pairs; None: made from verbs and nouns.
        pairs: verb and noun of each action.
        levels: supervision of pretraining, of training labels and of training data, 0 to 5.
    """
    results = {}
    for row, name in enumerate(names):
        if actions is None:
            best = action_scores(verbs[row], nouns[row])
        else:
            places = top(actions[row][None], ACTIONS)[0].tolist()
            best = [(pairs[place], float(actions[row, place])) for place in places]
        results[name] = {
            "verb": {str(n): float(v) for n, v in enumerate(verbs[row])},
            "noun": {str(n): float(v) for n, v in enumerate(nouns[row])},
            "action": {f"{verb},{noun}": score for (verb, noun), score in best},
        }
    return CHALLENGE | dict(zip(_LEVELS, levels, strict=True)) | {"results": results}


def check_submission(
    told: Mapping[str, Any], names: Sequence[str], *, verbs: int = 97, nouns: int = 300,
    actions: int = ACTIONS,
) -> None:  # fmt: skip
    """Refuse what the leaderboard's program would.

    Raises:
        InputError: one line with the segment, what it has, and what it must have.
    """
    for field, value in CHALLENGE.items():
        if told.get(field) != value:
            raise InputError(f"submission: {field} is {told.get(field)!r}; it must be {value!r}")
    for level in _LEVELS:
        if told.get(level) not in range(6):
            raise InputError(f"submission: {level} is {told.get(level)!r}; give 0 to 5")
    results = told.get("results", {})
    if lacking := sorted(set(names) - set(results)):
        raise InputError(f"submission: segment {lacking[0]} is not in it; all {len(names)} must be")
    if beyond := sorted(set(results) - set(names)):
        raise InputError(f"submission: segment {beyond[0]} is none of the {len(names)} asked about")
    wanted = {
        "verb": {str(n) for n in range(verbs)}, "noun": {str(n) for n in range(nouns)},
    }  # fmt: skip
    for name, scores in results.items():
        for kind, keys in wanted.items():
            if set(scores.get(kind, ())) != keys:
                raise InputError(
                    f"submission: {name} has {len(scores.get(kind, ()))} {kind}s; it must have 0 "
                    f"to {len(keys) - 1}"
                )
        if len(scores.get("action", ())) != actions:
            raise InputError(
                f"submission: {name} has {len(scores.get('action', ()))} actions; give exactly "
                f"{actions}"
            )
