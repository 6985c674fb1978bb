"""What a walk leaves behind, told in plain lines: artifacts, losses, evaluation, the planner."""

from __future__ import annotations

from collections import Counter, defaultdict
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
        told = [f"loss {log[0]['loss']:.4f} → {log[-1]['loss']:.4f} in {log[-1]['step']} steps"]
        for column, name in _DIAGNOSES:
            taken = [row[column] for row in log if row.get(column) is not None]
            if taken:
                told.append(f"{name} {taken[0]:.2f} → {taken[-1]:.2f}")
        yield f"{key_name(key):<16} {', '.join(told)}"


def _evaluation(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    for key, artifact in artifacts.items():
        groups: dict[str, list[str]] = defaultdict(list)
        if key[0] in ("world_model", "probe_report", "planning_report"):
            for name, value in artifact.metrics.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    first, _, rest = name.partition("_")
                    groups[first if rest else ""].append(f"{rest or first} {_short(value)}")
        for first, numbers in groups.items():
            yield f"{key_name(key):<16} {first:<10} {', '.join(numbers)}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _planner(artifacts: Mapping[Key, Artifact]) -> Iterator[str]:
    for key, artifact in artifacts.items():
        if key[0] == "planner_bundle":
            yield f"{artifact.path}  (its README says how to load it)"


def _page(deployed: Deployment) -> Iterator[str]:
    yield "vjepa2 ui        the graph, each asset's numbers and pictures, on 127.0.0.1"
    yield "vjepa2 status    what is fresh, stale or missing, and why"
    yield "vjepa2 lineage planner_bundle    everything that the planner was made from"
    yield f"store {deployed.store_at}"
