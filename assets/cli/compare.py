"""`vjepa2 compare a b`: settings that differ, numbers side by side, curves over each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import dagster as dg
import numpy as np

from assets.cli.plot import plotted
from assets.definitions.described import markdown, numbers
from assets.deployment import Deployment
from assets.previews.figures import training_curves
from assets.runs import records
from pipelines.schemas import nearest
from storage.artifacts import Artifact, ArtifactError, ArtifactStore
from storage.places import write_file

_LOG = "log.parquet"
_ABSENT = "-"
_DIGEST = re.compile("[0-9a-f]{4,64}")
PANELS = (
    "loss", "effective_rank", "feature_std", "held_out_rank", "rollout", "lr", "weight_decay", "ema"
)  # fmt: skip
"""Columns of a log whose curves are shown, in this order, where a training has them."""


class Side(NamedTuple):
    """One of the two that are compared, and how it is called."""

    name: str
    artifact: Artifact


def compare(deployed: Deployment, of: tuple[str, str], out: TextIO) -> Path | None:
    """Print what differs between two artifacts, draw it, and show it on the asset's page.

    `of` are names: `asset`, `asset/partition`, `asset@variant`, a variant alone (then of the asset
    that the other names, or of the first training of the two), or a digest.

    Returns:
        The picture of the curves in the home folder; None where neither has any.

    Raises:
        ArtifactError: a name leads to nothing, or to artifacts of two assets.
    """
    a, b = sides(deployed, of)
    for side in (a, b):
        manifest = side.artifact.manifest
        print(f"{side.name}: {manifest.name}, content {manifest.content[:12]}", file=out)
    different = dict(differing(a.artifact, b.artifact))
    sections = {"Settings that differ": different, "Numbers": dict(counted(a.artifact, b.artifact))}
    for title, rows in sections.items():
        print(f"\n{title}", file=out)
        for line in _table(rows, (a.name, b.name)):
            print(f"  {line}", file=out)
    curves = panels(a, b)
    for title, curve in curves.items():
        print(f"\n{title}", file=out)
        for line in plotted(curve):
            print(f"  {line}", file=out)
    if not curves:
        return None
    picture = drawn(curves, f"{a.name} and {b.name}")
    path = deployed.home / "compare" / f"{_plain(a.name)}-{_plain(b.name)}.png"
    write_file(path, picture)
    _show(deployed, b.artifact, (a.name, b.name), different, picture)
    print(f"\npicture {path}, and on the page of {b.artifact.manifest.asset}", file=out)
    return path


def sides(deployed: Deployment, of: tuple[str, str]) -> tuple[Side, Side]:
    """The two artifacts that are named."""
    store = deployed.open_store(read_only=True)
    variants = {name: _seen_as(deployed, name) for name in store.variants()}
    assets = [_asset_of(name, deployed, variants) for name in of]
    default = next((asset for asset in assets if asset), None) or _shared(deployed, of, variants)
    found = [
        Side(name, _find(name, store, variants, asset or default))
        for name, asset in zip(of, assets, strict=True)
    ]
    if len({side.artifact.manifest.asset for side in found}) > 1:
        names = " and ".join(f"{s.name} is of {s.artifact.manifest.asset}" for s in found)
        raise ArtifactError(f"{names}: compare two artifacts of one asset")
    return found[0], found[1]


def _seen_as(deployed: Deployment, variant: str) -> ArtifactStore:
    cache = deployed.profile.execution.cache
    return ArtifactStore(deployed.store_at, cache, deployed.name, read_only=True, variant=variant)


def _asset_of(name: str, deployed: Deployment, variants: Mapping[str, ArtifactStore]) -> str | None:
    """`asset[/partition]` as far as a name says it; None of a variant alone, or a digest."""
    asset, _, variant = name.partition("@")
    if asset.partition("/")[0] in deployed.graph.by_name:
        if variant and variant not in variants:
            raise ArtifactError(f"{name}: no such variant{nearest(variant, variants)}")
        return asset
    if name in variants or _DIGEST.fullmatch(name):
        return None
    known = [*deployed.graph.by_name, *variants]
    raise ArtifactError(f"{name}: no asset, no variant, no digest{nearest(name, known)}")


def _shared(
    deployed: Deployment, of: tuple[str, str], variants: Mapping[str, ArtifactStore]
) -> str | None:
    """The first training that one of two variants has of its own."""
    own = {asset for name in of if name in variants for asset, _ in variants[name].refs()}
    for asset in (name for name in deployed.graph.by_name if name in own):
        seen = next(store for name, store in variants.items() if name in of)
        manifest = seen.ref(asset)
        if manifest is not None and _LOG in manifest.by_path:
            return asset
    return None


def _find(
    name: str,
    store: ArtifactStore,
    variants: Mapping[str, ArtifactStore],
    asset: str | None,
) -> Artifact:
    """The artifact of one name; `asset` is what is meant where it does not say."""
    variant = name.partition("@")[2] or (name if name in variants else "")
    if asset is None or (name not in variants and _DIGEST.fullmatch(name)):
        held = {
            manifest.key: manifest
            for manifest in store.holders(name)
            if manifest.content.startswith(name) or manifest.recipe.startswith(name)
        }
        # Equal bytes may be the artifact of several partitions.
        held = {k: m for k, m in held.items() if m.name == asset} or held
        if len(held) != 1:
            what = f"names {len(held)} artifacts" if held else "names no artifact"
            raise ArtifactError(f"{name}: {what}; give asset@variant, or a longer digest")
        return store.open(next(iter(held.values())))
    key, _, partition = asset.partition("/")
    manifest = (variants[variant] if variant else store).ref(key, partition or None)
    if manifest is None:
        raise ArtifactError(f"{asset} was never materialized: run `vjepa2 run {asset}`")
    return store.open(manifest)


def differing(a: Artifact, b: Artifact) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Setting, version or input -> its value in each, where the two differ."""
    old, new = _flat(a.manifest.recipe_inputs), _flat(b.manifest.recipe_inputs)
    for name in {**old, **new}:
        values = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if values[0] != values[1]:
            yield name.removeprefix("config."), values


def counted(a: Artifact, b: Artifact) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Metric -> its value in each."""
    old, new = dict(numbers(a.manifest)), dict(numbers(b.manifest))
    yield from ((name, (old.get(name, _ABSENT), new.get(name, _ABSENT))) for name in {**old, **new})


def panels(a: Side, b: Side) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Column of the logs -> name of a side -> (steps, values), where a number was taken."""
    logs = {side.name: side.artifact.columns(_LOG) for side in (a, b) if side.artifact.has(_LOG)}
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for column in PANELS:
        for name, log in logs.items():
            values = np.asarray(log.get(column, ()), float)
            taken = np.isfinite(values)
            if taken.any():
                curves.setdefault(column, {})[name] = (log["step"][taken], values[taken])
    return curves


def drawn(curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], title: str) -> bytes:
    """The curves as a picture: a panel a column, both sides in it."""
    every = [steps for panel in curves.values() for steps, _ in panel.values()]
    steps = np.unique(np.concatenate(every))

    def spread(at: np.ndarray, values: np.ndarray) -> np.ndarray:
        wide = np.full(len(steps), np.nan)
        wide[np.searchsorted(steps, at)] = values
        return wide

    laid = {
        name: {side: spread(*curve) for side, curve in panel.items()}
        for name, panel in curves.items()
    }
    return training_curves(steps, laid, title)


def _show(
    deployed: Deployment,
    artifact: Artifact,
    names: tuple[str, str],
    different: Mapping[str, tuple[Any, Any]],
    picture: bytes,
) -> None:
    """Put the comparison on the page of the asset."""
    rows = "\n".join(f"| {name} | {a} | {b} |" for name, (a, b) in different.items())
    told = f"| setting | {names[0]} | {names[1]} |\n|---|---|---|\n{rows}"
    title = f"{names[0]} and {names[1]}"
    with records(deployed.home) as instance:
        instance.report_runless_asset_event(
            dg.AssetObservation(
                asset_key=artifact.manifest.asset,
                partition=artifact.manifest.partition,
                description=title,
                metadata={
                    "compared": title,
                    "picture/compared": dg.MetadataValue.md(markdown(title, picture)),
                    "settings that differ": dg.MetadataValue.md(told),
                },
            )
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found


def _table(rows: Mapping[str, tuple[Any, Any]], names: tuple[str, str]) -> Iterator[str]:
    told = [("", *names), *((name, _short(a), _short(b)) for name, (a, b) in rows.items())]
    widths = [max(len(row[i]) for row in told) for i in range(3)]
    if len(told) == 1:
        yield "none"
        return
    for row in told:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= 40 else f"{text[:39]}…"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
