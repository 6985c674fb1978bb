"""Released weights: what is evaluated, out of an official file, a Hugging Face folder, or this
graph's own cooled-down encoder.

Whatever they come from, they leave as a training leaves its own, so that every evaluation reads
them alike: encoder and, where there is one, predictor; of an official file the one of the two
encoders that is asked for.

Inputs: `cooled_encoder`, where no location is given. Payload:
    model.json                               architecture, and where the weights came from
    checkpoints/released/*.safetensors       target_encoder, predictor
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from models.checkpoints import save_weights
from models.encoder import Encoder
from models.huggingface import load_huggingface
from models.official import load_official_encoder, load_official_predictor, read_official
from models.predictor import Predictor
from pipelines.execution import ExecutionConfig
from pipelines.node import Keys, Profile
from pipelines.planner.weights import open_encoder, open_predictor, read_model
from pipelines.settings import NOT_EMPTY, Count, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError, curable
from storage.media import open_media
from storage.places import resolved

FINAL = "checkpoints/released"
_FOLDER = ("config.json", "model.safetensors.index.json")


@settings
class ReleasedWeightsConfig:
    """Whose weights are evaluated."""

    location: Annotated[str, NOT_EMPTY] | None = None
    """An official `.pt` file or a Hugging Face folder; None: the cooled-down encoder of this graph.
    """
    key: Literal["target_encoder", "encoder"] = "target_encoder"
    """Which encoder of an official file: the averaged one, as the paper evaluates, or the online
    one, which Hugging Face folders hold."""
    heads: Count | None = None
    """Attention heads of an official encoder, where its shapes fit several (ViT-g: 22)."""
    predictor_heads: Count | None = None
    """The same of its predictor, where it is not the published one."""
    size: Count = 256
    """Nominal side of an official encoder's pictures, pixels."""
    frames: Count = 64
    """Nominal frames of an official encoder's clips."""
    width: Count | None = None
    """The width that the encoder must have (ViT-L: 1024); None: any."""


def from_this_graph(_: str | None, above: Keys, profile: Profile) -> Keys:
    """The graph's own encoder is read where no location is given."""
    return above if profile.released_weights.location is None else ()


def observe(
    config: ReleasedWeightsConfig, _: str | None, execution: ExecutionConfig
) -> dict[str, Any]:
    """Digests of the files of weights, by their names."""
    if config.location is None:
        return {}
    folder, names = _files(config.location)
    book = execution.cache / "digests" / "released_weights.json"
    return open_media(str(folder)).digests(names, book)


def _files(location: str) -> tuple[Path, list[str]]:
    """The folder of the weights and the names of the files in it that count."""
    place = resolved(location)
    if place.is_dir():
        names = sorted(p.name for p in place.glob("*.safetensors"))
        return place, [*(name for name in _FOLDER if (place / name).exists()), *names]
    if place.is_file():
        return place.parent, [place.name]
    raise InputError(
        f"released_weights.location {location}: there is no such file or folder; give an official "
        ".pt file or a Hugging Face folder"
    )


def read_weights(config: ReleasedWeightsConfig) -> tuple[Encoder, Predictor | None, str]:
    """Encoder, predictor (where there is one) and the kind of what lies at the location.

    Raises:
        InputError: one line with the file, what is wrong in it and what was expected.
    """
    assert config.location is not None
    place = resolved(config.location)
    with curable(f"released_weights.location {config.location}"):
        if place.is_dir():
            return *load_huggingface(place), "huggingface"
        encoder = load_official_encoder(
            place, key=config.key, heads=config.heads, size=config.size, frames=config.frames
        )
        if "predictor" not in read_official(place):
            return encoder, None, "official"
        predictor = load_official_predictor(place, heads=config.predictor_heads)
        return encoder, predictor, "official"


def run(config: ReleasedWeightsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Read the weights and write them as a training does."""
    if config.location is None:
        described, weights = _of_graph(inputs["cooled_encoder"])
    else:
        encoder, predictor, kind = read_weights(config)
        weights = {"target_encoder": encoder, "predictor": predictor}
        described = {
            "encoder": asdict(encoder.config), "initialisation": "published", "kind": kind,
            "predictor": asdict(predictor.config) if predictor else None,
        }  # fmt: skip
    width = described["encoder"]["width"]
    if config.width not in (None, width):
        raise InputError(
            f"released_weights.location {config.location}: its encoder is {width} wide, and "
            f"released_weights.width asks for {config.width}"
        )
    for name, network in weights.items():
        if network is not None:
            save_weights(out.payload / FINAL / f"{name}.safetensors", network.state_dict())
    model = {"architecture": described, "final": FINAL}
    (out.payload / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    return {
        "kind": described["kind"], "width": width, "depth": described["encoder"]["depth"],
        "predictor": described["predictor"] is not None,
        "parameters": sum(p.numel() for n in weights.values() if n for p in n.parameters()),
    }  # fmt: skip


def _of_graph(trained: Artifact) -> tuple[dict[str, Any], dict[str, Any]]:
    architecture = read_model(trained)[0]
    held = architecture.get("predictor")
    weights: Mapping[str, Any] = {
        "target_encoder": open_encoder(trained),
        "predictor": open_predictor(trained) if held else None,
    }
    kept = {name: architecture[name] for name in ("encoder", "initialisation")}
    return {**kept, "predictor": held, "kind": "graph"}, dict(weights)


STAGE = Stage(
    "released_weights", version=1, config=ReleasedWeightsConfig, run=run, observe=observe,
    paths=("location",),
)  # fmt: skip
