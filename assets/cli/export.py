"""Handing an artifact to others: its files, with the papers that their tools ask for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TextIO

from assets.cli.audit import found, trainings
from assets.deployment import Deployment
from pipelines.documents import SIGNATURE, bill_of_materials, card, model_signature
from pipelines.lineage import Unread
from pipelines.training.drawn import rows
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.manifests import list_files
from storage.places import write_file

BILL, PROVENANCE = "bom.cdx.json", "provenance.intoto.json"


def export(deployed: Deployment, of: str, folder: Path, out: TextIO) -> None:
    """Copy an artifact's files to a folder that is not there yet, with a model card, a CycloneDX
    ML-BOM, a signed in-toto statement and an OpenSSF model signature.

    Raises ArtifactError when the name does not say which artifact, the folder cannot be made,
    or the deployment refuses the artifact for who wrote it.
    """
    store = deployed.open_store()
    unread: Unread = []
    named = {manifest.key: manifest for manifest, _, _ in found(store, deployed.graph, of, unread)}
    if len(named) > 1:
        told = ", ".join(f"{m.name} {m.content[:12]}" for m in list(named.values())[:4])
        raise ArtifactError(f"{of} names {len(named)} artifacts: {told}; give one of them")
    [manifest] = named.values()
    if (doubt := store.doubt(manifest)).refused:  # our signature would vouch for it
        raise ArtifactError(f"{manifest.name}: {doubt.told}")
    try:
        folder.mkdir(parents=True)
        _fill(store, manifest, folder, unread)
    except OSError as error:
        raise ArtifactError(f"{folder}: {error.strerror}; give a new folder") from None
    print(f"{manifest.name} {manifest.content[:12]} is in {folder}", file=out)
    print(f"  {_card_name(manifest)}, {BILL}, {PROVENANCE}, {SIGNATURE}, signing-key.pem", file=out)


def _card_name(manifest: Manifest) -> str:
    """A bundle has a README of its own, which stays as it was sealed."""
    return "MODEL_CARD.md" if "README.md" in manifest.by_path else "README.md"


def _fill(store: ArtifactStore, manifest: Manifest, folder: Path, unread: Unread) -> None:
    artifact = store.handle(manifest)
    for path in manifest.by_path:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.file(path), target)  # no link: others may write into theirs
    trained_on: dict[str, int] = {}
    for drawn in trainings(manifest, store, None, unread):
        table = rows(store, drawn)
        for source, number in zip(table["source"], table["draws"], strict=True):
            trained_on[str(source)] = trained_on.get(str(source), 0) + int(number)
    assert store.signatures is not None
    key = store.signatures.keyring.own_or_new()
    bill = bill_of_materials(manifest, trained_on)
    write_file(folder / _card_name(manifest), card(manifest, trained_on).encode())
    write_file(folder / BILL, json.dumps(bill, indent=1, sort_keys=True).encode())
    write_file(folder / PROVENANCE, store.signatures.provenance(manifest).to_json())
    write_file(folder / "signing-key.pem", key.public.pem)
    files = {entry.path: entry.digest for entry in list_files(folder)}
    write_file(folder / SIGNATURE, model_signature(folder.name, files, key))
