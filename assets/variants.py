"""Variants: what is made under a name, beside what the deployment shows.

    vjepa2 run encoder --as big-lr --set encoder.lr=5e-3
    vjepa2 run world_model --as big-lr          # goes on from that encoder, with the same settings

A variant keeps its settings and has refs of its own. What is fresh under its settings it shares
with the deployment, whose own artifacts stay what they are. On the page of the asset a variant
appears as an observation, with its numbers and pictures: the asset's state is another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

import dagster as dg

from assets.definitions.described import markdown, numbers
from assets.deployment import Deployment
from assets.materialize import Outcome, materialize_stale
from assets.previews import PREVIEWS
from pipelines.assignments import override
from pipelines.graph import Key, key_name, open_inputs
from pipelines.settings import SettingError
from pipelines.stage import Inputs
from storage.artifacts import ArtifactStore
from storage.errors import UserError


def variant_of(deployed: Deployment, name: str, settings: Sequence[str]) -> Deployment:
    """The deployment under a variant's settings: those it was last made with, and then these.

    Raises:
        SettingError: the name is an asset's.
        PlaceError: it cannot be a name.
    """
    if name in deployed.graph.by_name:
        raise SettingError(f"--as {name}: is the name of an asset; give the variant another one")
    named = replace(deployed, variant=name)
    kept = {text.partition("=")[0].strip(): text for text in named.open_store().variant_settings}
    applied = (*(kept | {text.partition("=")[0].strip(): text for text in settings}).values(),)
    return replace(named, settings=applied, profile=override(deployed.profile, applied))


def materialize_variant(
    deployed: Deployment,
    store: ArtifactStore,
    instance: dg.DagsterInstance,
    wanted: Sequence[str],
    out: TextIO,
) -> Outcome:
    """`materialize_stale` of a variant; the runs are apart, and the page is told what was made."""
    store.note_settings(deployed.settings)
    with dg.DagsterInstance.ephemeral() as apart:
        outcome = materialize_stale(deployed, store, apart, wanted, out)
    for key in outcome.made:
        instance.report_runless_asset_event(_observed(deployed, store, key))
    return outcome


def _observed(deployed: Deployment, store: ArtifactStore, key: Key) -> dg.AssetObservation:
    """What the page says of one artifact of a variant."""
    manifest = store.ref(*key)
    assert manifest is not None  # it was made a moment ago
    artifact, preview = store.open(manifest), PREVIEWS.get(key[0])
    try:
        inputs = open_inputs(
            deployed.graph, deployed.graph[key[0]], key[1], deployed.profile, store
        )
        pictures = preview(artifact, Inputs(inputs)) if preview else {}
    except UserError:  # an input was cleared away meanwhile: its numbers are told all the same
        pictures = {}
    told = {
        "variant": str(deployed.variant),
        "settings": " ".join(deployed.settings) or "none",
        **{
            f"picture/{name}": dg.MetadataValue.md(markdown(name, p))
            for name, p in pictures.items()
        },
        **{f"metrics/{name}": value for name, value in numbers(manifest)},
        "recipe": manifest.recipe,
        "content": manifest.content,
    }
    return dg.AssetObservation(
        asset_key=key[0], partition=key[1], metadata=told,
        description=f"{key_name(key)} as {deployed.variant}",
    )  # fmt: skip
