"""What a run leaves behind, told in plain lines: artifacts, losses, evaluation, the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from assets.definitions.checks import not_passed
from assets.deployment import Deployment
from pipelines.graph import Key, key_name
from storage.artifacts import Artifact, ArtifactStore

REASONS = 8  # distinct reasons shown in full


def summarise(
    deployed: Deployment, store: ArtifactStore, keys: Sequence[Key], out: TextIO
) -> list[str]:
    """Print what the deployment shows for some keys; return the gates that stop a run."""
    artifacts = {}
    for key in keys:
        if manifest := store.ref(*key):
            artifacts[key] = store.open(manifest)
    named = {key_name(key): artifact for key, artifact in artifacts.items()}
    refused = not_passed(named, deployed, store)
    sections: tuple[tuple[str, Iterable[str]], ...] = (
        ("Artifacts", _artifacts(artifacts)),
        ("Set aside", _quarantined(artifacts)),
        *_told(deployed, artifacts).items(),
        ("Warnings", not_passed(named, deployed, store, blocking=False)),
        ("Checks not passed", refused),
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
        if artifact.has("quarantine.parquet"):
            for row in artifact.table("quarantine.parquet"):
                reasons[row["stage"], row["reason"]] += 1
                examples.setdefault((row["stage"], row["reason"]), row["item"])
    for (stage, reason), count in reasons.most_common(REASONS):
        yield f"{count:>4} x {stage}: {reason} (e.g. {examples[stage, reason]})"
    if len(reasons) > REASONS:
        rest = sum(reasons.values()) - sum(n for _, n in reasons.most_common(REASONS))
        yield f"{rest:>4} x other reasons: see quarantine.parquet of each artifact"
    if not reasons:
        yield "nothing"


def _told(deployed: Deployment, artifacts: Mapping[Key, Artifact]) -> dict[str, list[str]]:
    """Heading -> the lines that the nodes themselves say of their artifacts."""
    told: dict[str, list[str]] = {}
    for key, artifact in artifacts.items():
        summary = deployed.graph[key[0]].summary
        for heading, line in summary(artifact) if summary else ():
            told.setdefault(heading, []).append(line)
    return told


def _page(deployed: Deployment) -> Iterator[str]:
    yield "vjepa2 ui        the graph, each asset's numbers and pictures, on 127.0.0.1"
    yield "vjepa2 status    what is fresh, stale or missing, and why"
    yield "vjepa2 lineage planner_bundle    everything that the planner was made from"
    yield f"store {deployed.store_at}"
