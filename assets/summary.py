"""What a walk leaves behind, told in plain lines: artifacts, losses, evaluation, the planner."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from assets.deployment import Deployment
from pipelines.gates import refusals
from pipelines.graph import Key, key_name
from storage.artifacts import Artifact, ArtifactStore
from storage.tables import read_table

REASONS = 8  # distinct reasons shown in full
_DIAGNOSES = (
    ("effective_rank", "effective rank"),
    ("feature_std", "spread"),
    ("held_out_rank", "held-out rank of the true action"),
)


def summarise(
    deployed: Deployment, store: ArtifactStore, keys: Sequence[Key], out: TextIO
) -> list[str]:
    """Print what the deployment shows for some keys; return the gates that are not passed."""
    artifacts = {}
    for key in keys:
        if manifest := store.ref(*key):
            artifacts[key] = store.open(manifest)
    refused = refusals({key_name(k): a for k, a in artifacts.items()}, deployed.profile.gates)
    sections: tuple[tuple[str, Iterator[str]], ...] = (
        ("Artifacts", _artifacts(artifacts)),
        ("Set aside", _quarantined(artifacts)),
        ("Training", _training(artifacts)),
        ("Evaluation", _evaluation(artifacts)),
        ("Checks not passed", iter(refused)),
        ("Planner", _planner(artifacts)),
        ("Look at it", _page(deployed)),
    )
    for title, lines in sections:
        told = list(lines)
        if told:
            print(f"\n{title}", file=out)
            print("\n".join(f"  {line}" for line in told), file=out)
    return refused


def _artifacts(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    total = 0
    for key, artifact in artifacts.items():
        manifest = artifact.manifest
        total += manifest.size
        yield (
            f"{key_name(key):<30} {len(manifest.files):>5} files {manifest.size / 1e6:>10.3f} MB"
            f"  content {manifest.content[:12]}  recipe {manifest.recipe[:12]}"
        )
    yield f"{len(artifacts)} artifacts, {total / 1e6:.1f} MB"


def _quarantined(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    reasons: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for artifact in artifacts.values():
        if (artifact.path / "quarantine.parquet").is_file():
            for row in read_table(artifact.path / "quarantine.parquet"):
                reasons[row["stage"], row["reason"]] += 1
                examples.setdefault((row["stage"], row["reason"]), row["item"])
    for (stage, reason), count in reasons.most_common(REASONS):
        yield f"{count:>4} x {stage}: {reason} (e.g. {examples[stage, reason]})"
    if len(reasons) > REASONS:
        rest = sum(reasons.values()) - sum(n for _, n in reasons.most_common(REASONS))
        yield f"{rest:>4} x other reasons: see quarantine.parquet of each artifact"
    if not reasons:
        yield "nothing"


def _training(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    for key, artifact in artifacts.items():
        if not (artifact.path / "log.parquet").is_file():
            continue
        log = read_table(artifact.path / "log.parquet")
        if "step" not in log[0]:
            continue  # the probe's log is by variant and epoch; its numbers stand under Evaluation
        told = [f"loss {log[0]['loss']:.4f} → {log[-1]['loss']:.4f} in {log[-1]['step']} steps"]
        for column, name in _DIAGNOSES:
            taken = [row[column] for row in log if row.get(column) is not None]
            if taken:
                told.append(f"{name} {taken[0]:.2f} → {taken[-1]:.2f}")
        yield f"{key_name(key):<16} {', '.join(told)}"


def _evaluation(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    """The numbers that say what was learned, each beside what it has to beat."""
    by_asset = {key[0]: artifact for key, artifact in artifacts.items()}
    if model := by_asset.get("world_model"):
        told = _json(model, "ranking.json")
        yield (
            f"world_model      mean rank of the true action {_mean(told['rank'])} of "
            f"{told['candidates']} candidates (chance {told['chance_rank']:g}); loss with shuffled "
            f"actions {_mean(told['shuffled_over_true'])} times that with true ones"
        )
    if probe := by_asset.get("probe_report"):
        told = _json(probe, "report.json")
        variants = {**told["encoders"], **told["controls"]}
        shares = ", ".join(
            f"{variant} {_rate(found['accuracy'])}" for variant, found in variants.items()
        )
        yield f"probe_report     accuracy: {shares}; chance {told['chance']:.3g}"
    if planning := by_asset.get("planning_report"):
        for policy, labs in _json(planning, "report.json")["policies"].items():
            pooled = labs["pooled"]
            yield (
                f"planning_report  {policy:<9} reached {_rate(pooled['reached'])}, "
                f"ended {pooled['final_cm']['median']:.1f} cm away (median), "
                f"closed {pooled['closed']:.0%} of the distance"
            )


def _json(artifact: Artifact, name: str) -> Any:
    return json.loads((artifact.path / name).read_text())


def _mean(told: Mapping[str, float]) -> str:
    return f"{told['mean']:.2f} [{told['low']:.2f}, {told['high']:.2f}]"


def _rate(told: Mapping[str, float]) -> str:
    """`12 of 20 = 60% [39%, 78%]`, the interval being 95 %."""
    share = f"{told['rate']:.0%} [{told['low']:.0%}, {told['high']:.0%}]"
    return f"{told['successes']} of {told['trials']} = {share}"


def _planner(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    for key, artifact in artifacts.items():
        if key[0] == "planner_bundle":
            yield f"{artifact.path}  (its README says how to load it)"


def _page(deployed: Deployment) -> Iterator[str]:
    yield "vjepa2 ui        the graph, each asset's numbers and pictures, on 127.0.0.1"
    yield "vjepa2 status    what is fresh, stale or missing, and why"
    yield "vjepa2 lineage planner_bundle    everything that the planner was made from"
    yield f"store {deployed.store_at}"
