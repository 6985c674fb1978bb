"""Papers of an artifact that others' tools read: model card, bill of materials, model signature.

All follow from its manifest and the key that signs them: nothing here changes a payload, and equal
artifacts have equal papers.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from storage.artifacts import Manifest
from storage.envelopes import sealed, statement
from storage.keys import SigningKey

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SIGNED = "https://model_signing/signature/v1.0"
SIGNATURE = "model.sig"


def card(manifest: Manifest, trained_on: Mapping[str, int]) -> str:
    """A model card with the front matter that Hugging Face reads.

    Args:
        manifest: of the artifact.
        trained_on: source -> how many samples of it trainings drew.
    """
    record = manifest.record
    metrics = record.get("metrics", {})
    front = {
        "library_name": "pytorch",
        "tags": ["v-jepa-2", "world-model", "video", manifest.asset],
        "datasets": sorted(trained_on),
    }
    lines = [
        "---", *_yaml(front), "---", "", f"# {manifest.name}", "",
        f"Made by stage `{manifest.recipe_inputs.get('stage')}` version "
        f"{manifest.recipe_inputs.get('version')} of a V-JEPA 2 system.", "",
        f"- content `{manifest.content}`", f"- recipe `{manifest.recipe}`",
        f"- code `{record.get('git_commit') or 'unknown'}`, python {record.get('python')}, torch "
        f"{record.get('torch')}, {record.get('device')}", "",
        "## Training data", "",
        *(f"- {source}: {number} samples drawn" for source, number in sorted(trained_on.items())),
        *([] if trained_on else ["Nothing is known to have been drawn."]), "",
        "## Measured", "", *(f"- {name}: {value}" for name, value in sorted(_flat(metrics))), "",
        "## Asked", "",
        *(f"- `{name}` = `{value}`" for name, value in _flat(manifest.recipe_inputs["config"])), "",
        "## Made from", "",
        *(f"- {name} `{content}`" for name, (_, content) in sorted(manifest.parents.items())), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _yaml(front: Mapping[str, Any]) -> Iterator[str]:
    """YAML in which every word is quoted as JSON does, which YAML reads."""
    for name, value in front.items():
        if value:
            yield f"{name}: {json.dumps(value)}"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value).replace("\n", " ")


def bill_of_materials(manifest: Manifest, trained_on: Mapping[str, int]) -> dict[str, Any]:
    """A CycloneDX 1.6 ML-BOM: the model, the artifacts it was made from, the code that made it."""
    parents = sorted(manifest.parents.items())
    model = {
        "type": "machine-learning-model",
        "bom-ref": manifest.content,
        "name": manifest.name,
        "version": manifest.content[:12],
        "hashes": [{"alg": "SHA-256", "content": manifest.content}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "self-supervised"},
                "datasets": [{"ref": content} for name, (_, content) in parents if _is_data(name)],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {"type": name, "value": value}
                    for name, value in sorted(_flat(manifest.record.get("metrics", {})))
                ]
            },
        },
        "properties": [
            {"name": f"drawn:{source}", "value": str(number)}
            for source, number in sorted(trained_on.items())
        ],
    }
    components = [
        {
            "type": "data" if _is_data(name) else "machine-learning-model",
            "bom-ref": content,
            "name": name,
            "version": content[:12],
            "hashes": [{"alg": "SHA-256", "content": content}],
        }
        for name, (_, content) in {c: (n, (r, c)) for n, (r, c) in parents}.values()
    ]
    libraries = {"torch": manifest.record.get("torch"), **manifest.record.get("libraries", {})}
    components += [
        {"type": "library", "bom-ref": f"pkg:pypi/{n}@{v}", "name": n, "version": str(v),
         "purl": f"pkg:pypi/{n}@{v}"}
        for n, v in sorted(libraries.items()) if v
    ]  # fmt: skip
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, manifest.key)}",
        "version": 1,
        "metadata": {"component": model},
        "components": components,
        "dependencies": [
            {"ref": manifest.content, "dependsOn": sorted({str(c["bom-ref"]) for c in components})}
        ],
    }


def _is_data(name: str) -> bool:
    return name.partition("/")[0] in (
        "videomix22m", "clip_shards", "episode_shards", "frame_features", "curated_scenes",
        "raw_videos", "droid_episodes",
    )  # fmt: skip


def model_signature(name: str, files: Mapping[str, str], key: SigningKey) -> bytes:
    """An OpenSSF model signature (v1.0) over a folder's files (path -> SHA-256), as `model_signing
    verify key` reads it; `model.sig` in the folder is left out.
    """
    ordered = sorted(files.items(), key=lambda item: PurePosixPath(item[0]))
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    told = statement(
        {name: whole},
        _SIGNED,
        {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False,
                "ignore_paths": [SIGNATURE],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered
            ],
        },
    )  # fmt: skip
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.public.keyid}, "tlogEntries": []},
        "dsseEnvelope": sealed(told, key).document(),
    }
    return json.dumps(bundle, indent=1, sort_keys=True).encode()
