"""Gates: when an artifact is good enough for what follows to be made from it.

A gate reads one sealed artifact and gives a verdict with the numbers it rests on. Its thresholds
are no recipe input of any stage: changing one makes nothing stale. Dagster shows each gate as an
asset check, and nothing is made from an artifact whose blocking gate says no.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storage.artifacts import Artifact
from storage.tables import read_columns, read_table

Number = float | int | str


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What is still good enough."""

    quarantined: float = 0.5
    """Largest share of a partition's items that may be set aside as unreadable."""
    effective_rank: float = 0.1
    """Smallest effective rank of the encoder's features, as a share of its width. Below it the
    features have collapsed, however low the loss: spread and loss alone do not show it."""
    action_rank: float = 0.4
    """Largest mean rank of the true action, as a share of what chance gives; 3 lets all pass."""
    shuffled_loss: float = 1.0
    """The loss with shuffled actions over that with true ones has to be above this, with 95 %
    confidence; 0 lets all pass."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = 3 if name == "action_rank" else 1
            if not 0 <= value <= most:
                raise ValueError(f"{name} = {value}: must be from 0 to {most}")


@dataclass(frozen=True)
class Verdict:
    """Whether an artifact passed, why in one sentence, and the numbers of that sentence."""

    passed: bool
    summary: str
    numbers: Mapping[str, Number]


Judge = Callable[[Artifact, GateConfig], Verdict]


@dataclass(frozen=True)
class Gate:
    """One named test of an artifact."""

    name: str
    claim: str
    """What holds when it passes, for people."""
    judge: Judge


# Asset -> the table with what was kept, and the column that names its items as the quarantine does.
_KEPT = {
    "raw_videos": ("videos.parquet", "video_id"),
    "scenes": ("scenes.parquet", "video_id"),
    "scene_embeddings": ("rows.parquet", "scene_id"),
    "clip_shards": ("index.parquet", "key"),
    "droid_episodes": ("episodes.parquet", "episode"),
    "episode_shards": ("index.parquet", "key"),
}


def quarantine_small(artifact: Artifact, gates: GateConfig) -> Verdict:
    """Few enough items were set aside. An empty partition passes: it lost nothing."""
    table, column = _KEPT[artifact.manifest.asset]
    kept = len(set(read_columns(artifact.path / table, [column])[column].tolist()))
    lost = len({row["item"] for row in read_table(artifact.path / "quarantine.parquet")})
    share = lost / max(1, kept + lost)
    return Verdict(
        share <= gates.quarantined,
        f"{lost} of {kept + lost} items quarantined ({share:.1%}; at most {gates.quarantined:.0%})",
        {"kept": kept, "quarantined": lost, "share": share},
    )


def weights_match(artifact: Artifact, _: GateConfig) -> Verdict:
    """The mixture draws by the weights that were asked for, and has clips for each of them."""
    mixture = json.loads((artifact.path / "mixture.json").read_text())
    asked = artifact.manifest.recipe_inputs["config"]["weights"]
    index = read_columns(artifact.path / "index.parquet", ["source", "weight"])
    trained = {str(s) for s in index["source"][index["weight"] > 0]}
    total = sum(mixture["weights"].values())
    without = sorted(s for s, weight in mixture["weights"].items() if weight and s not in trained)
    passed = mixture["weights"] == asked and math.isclose(total, 1.0, abs_tol=1e-6) and not without
    listed = ", ".join(f"{source} {weight:g}" for source, weight in mixture["weights"].items())
    lacking = f"; no clip to train on in {', '.join(without)}" if without else ""
    return Verdict(passed, f"{listed}; sum {total:.6g}{lacking}", {**mixture["weights"]})


def loss_finite(artifact: Artifact, _: GateConfig) -> Verdict:
    """Every logged loss is a finite number."""
    log = read_columns(artifact.path / "log.parquet", ["step", "loss"])
    bad = log["step"][~np.isfinite(log["loss"].astype(np.float64))]
    if len(log["loss"]) == 0:
        return Verdict(False, "no step was logged", {"steps": 0})
    told = f"first not finite at step {bad[0]}" if len(bad) else "all finite"
    first, last = float(log["loss"][0]), float(log["loss"][-1])
    return Verdict(
        not len(bad),
        f"loss {first:.4g} to {last:.4g} over {len(log['loss'])} logged steps, {told}",
        {"first_loss": first, "last_loss": last, "not_finite": len(bad)},
    )


def features_not_collapsed(artifact: Artifact, gates: GateConfig) -> Verdict:
    """The features of the last checkpoint still span enough directions."""
    log = read_columns(artifact.path / "log.parquet", ["step", "effective_rank", "feature_std"])
    rank = log["effective_rank"].astype(np.float64)
    taken = np.flatnonzero(np.isfinite(rank))
    if not len(taken):
        return Verdict(False, "the effective rank was never logged", {"taken": 0})
    width = encoder_width(artifact)
    last, least = float(rank[taken[-1]]), gates.effective_rank * width
    spread = float(log["feature_std"][taken[-1]])
    return Verdict(
        last >= least,
        f"effective rank {last:.1f} of {width} (at least {least:.1f}), spread {spread:.3f}",
        {"effective_rank": last, "least": least, "width": width, "feature_std": spread},
    )


def encoder_width(artifact: Artifact) -> int:
    """Channels of the encoder in a training artifact."""
    model = json.loads((artifact.path / "model.json").read_text())
    return int(model["architecture"]["encoder"]["width"])


def ranks_true_action(artifact: Artifact, gates: GateConfig) -> Verdict:
    """The true action ranks far above chance among candidates, on held-out episodes."""
    ranking = json.loads((artifact.path / "ranking.json").read_text())
    rank, chance = ranking["rank"], float(ranking["chance_rank"])
    most = gates.action_rank * chance
    return Verdict(
        rank["mean"] <= most,
        f"mean rank {rank['mean']:.2f} (95 % {rank['low']:.2f} to {rank['high']:.2f}) among "
        f"{ranking['candidates']} candidates; at most {most:.1f}, chance is {chance:.1f}",
        {**rank, "most": most, "chance": chance, "candidates": int(ranking["candidates"])},
    )


def needs_true_actions(artifact: Artifact, gates: GateConfig) -> Verdict:
    """Another pair's action predicts worse, beyond the test's 95 % interval: actions are used."""
    ratio = json.loads((artifact.path / "ranking.json").read_text())["shuffled_over_true"]
    return Verdict(
        ratio["low"] > gates.shuffled_loss,
        f"loss with shuffled actions is {ratio['mean']:.3f} times that with true ones "
        f"(95 % {ratio['low']:.3f} to {ratio['high']:.3f}; above 1 means that actions are used)",
        dict(ratio),
    )


def bundle_loads(artifact: Artifact, _: GateConfig) -> Verdict:
    """Every file of the bundle is there and as sealed, and its networks can be rebuilt."""
    from pipelines.planner.bundle import BundleError, load_planner  # torch: only when it is needed

    try:
        load_planner(artifact.path)
    except BundleError as refused:
        return Verdict(False, str(refused), {"files": len(artifact.manifest.files)})
    return Verdict(True, "loads from its folder alone", {"files": len(artifact.manifest.files)})


_QUARANTINE = Gate("quarantine_small", "few enough items were set aside", quarantine_small)
_LOSS = Gate("loss_finite", "every logged loss is finite", loss_finite)
_RANK = Gate(
    "features_not_collapsed", "the features span enough directions", features_not_collapsed
)

GATES: Mapping[str, Sequence[Gate]] = {
    **dict.fromkeys(_KEPT, (_QUARANTINE,)),
    "videomix22m": (Gate("weights_match", "sources are drawn as asked", weights_match),),
    "encoder": (_LOSS, _RANK),
    "cooled_encoder": (_LOSS, _RANK),
    "world_model": (
        _LOSS,
        Gate("ranks_true_action", "the true action ranks far above chance", ranks_true_action),
        Gate("needs_true_actions", "shuffled actions predict worse", needs_true_actions),
    ),
    "planner_bundle": (Gate("bundle_loads", "the planner can be used", bundle_loads),),
}


def refusals(artifacts: Mapping[str, Artifact], gates: GateConfig) -> list[str]:
    """One line for each gate that one of the named artifacts does not pass."""
    lines = []
    for name, artifact in artifacts.items():
        for gate in GATES.get(artifact.manifest.asset, ()):
            verdict = gate.judge(artifact, gates)
            if not verdict.passed:
                lines.append(f"{name} does not pass {gate.name}: {verdict.summary}")
    return lines
