"""The planner as a folder that a robot's user takes home: weights, contract, settings, digests.

    encoder.safetensors       the target encoder
    world_model.safetensors   the action-conditioned world model
    model.json                both architectures, and which artifacts they came from
    planner.json              preprocessing, search settings, layout and units of state and action
    README.md                 how to use it, and what was measured
    digests.json              SHA-256 of every other file, checked when the bundle is loaded

`load_planner(folder)` needs the folder alone, and torch; it never unpickles. The search settings
are those that the planning report measured, so the numbers in the README are this planner's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import file_in, load_into, load_weights
from models.encoder import Encoder, EncoderConfig
from models.preprocessing import Preprocessing
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.cem import PlannerConfig
from pipelines.planner.control import Planner
from pipelines.planner.readme import write_readme
from pipelines.planner.weights import open_world, read_pace, weights_file
from pipelines.planner.world import ImaginedWorld
from pipelines.robot.pace import Pace
from pipelines.stage import Inputs, Stage, Workspace
from storage.digests import digest_file
from storage.errors import UserError

FORMAT = 3
_NEEDED = {"encoder.safetensors", "world_model.safetensors", "model.json", "planner.json"}
_AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
_UNITS = ("m", "m", "m", "rad", "rad", "rad", "0 open to 1 closed")


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """What is exported besides what upstream settles."""

    name: str = "vjepa2-planner"
    """How the bundle calls itself."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"name is '{self.name}': give one that can be read")


class BundleError(UserError, ValueError):
    """A planner bundle that is incomplete, altered, or of a format this code does not know."""


def load_planner(folder: Path | str, device: str = "cpu") -> Planner:
    """Open a bundle.

    Args:
        folder: the bundle, wherever it was copied to.
        device: where to compute, for instance "cpu" or "cuda".

    Returns:
        A planner: `planner.plan(frame, state, goal_frame)`, see `pipelines.planner.control`.

    Raises:
        BundleError: a file is missing or not what was exported.
    """
    folder = Path(folder)
    check_digests(folder)
    model = json.loads((folder / "model.json").read_text())
    described = json.loads((folder / "planner.json").read_text())
    if described["format"] != FORMAT:
        raise BundleError(
            f"{folder}: format {described['format']}, this code reads {FORMAT}; "
            "use the version that exported it"
        )
    encoder = Encoder(EncoderConfig(**model["encoder"]))
    world_model = WorldModel(WorldModelConfig(**model["world_model"]))
    for name, network in (("encoder", encoder), ("world_model", world_model)):
        path = folder / f"{name}.safetensors"
        load_into(network, load_weights(path), str(path))
        network.to(torch.device(device))
    preprocessing = Preprocessing(**described["preprocessing"])
    search = PlannerConfig(**_tuples(described["search"]))
    return Planner(ImaginedWorld(encoder, world_model, preprocessing), search, described["seed"])


def check_digests(folder: Path) -> None:
    """Compare every file with the digest that was exported with it.

    Raises:
        BundleError: names the first file that is missing, altered, not listed or elsewhere.
    """
    listed = _file_in(folder, "digests.json")
    if not listed.is_file():
        raise BundleError(f"{folder}: no digests.json here, so this is not a planner bundle")
    try:
        digests: dict[str, str] = json.loads(listed.read_text())
    except ValueError as error:
        raise BundleError(f"{listed} is not readable ({error}); export it again") from None
    if not isinstance(digests, dict):
        raise BundleError(f"{listed} is no list of names and digests; export it again")
    for name in sorted(_NEEDED - set(digests)):
        raise BundleError(f"{listed} does not list {name}; export the bundle again")
    for name, digest in sorted(digests.items()):
        if not (file := _file_in(folder, name)).is_file():
            raise BundleError(f"{folder / name} is missing; copy the whole bundle again")
        if digest_file(file) != digest:
            raise BundleError(
                f"{folder / name} is not what was exported (its SHA-256 differs); copy it again"
            )


def _file_in(folder: Path, name: str) -> Path:
    try:
        return file_in(folder, name)
    except ValueError as error:
        raise BundleError(str(error)) from None


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from JSON with tuples where a frozen config has them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def describe(
    config: BundleConfig, world: ImaginedWorld, pace: Pace, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The contents of planner.json; `settings` are those of the planning report.

    `rate_hz` follows from the recordings: frames a second by their `clock`.
    """
    layout = [{"name": n, "unit": u} for n, u in zip(_AXES, _UNITS, strict=True)]
    return {
        "format": FORMAT,
        "name": config.name,
        "seed": settings["seed"],
        "search": settings["search"],
        "preprocessing": asdict(world.preprocessing),
        "frames_per_view": world.encoder.config.tubelet,
        **asdict(pace),
        "state": {"layout": layout, "frame": "robot base", "angles": "extrinsic x-y-z Euler"},
        "action": {"layout": layout, "meaning": "change of the state until the next frame"},
    }


def export_weights(inputs: Inputs, folder: Path) -> ImaginedWorld:
    """Copy the final weights and describe their architecture; returns the world they make."""
    seen, imagined = inputs["cooled_encoder"], inputs["world_model"]
    world = open_world(seen, imagined)
    shutil.copyfile(weights_file(seen, "target_encoder"), folder / "encoder.safetensors")
    shutil.copyfile(weights_file(imagined, "world_model"), folder / "world_model.safetensors")
    model = {
        "encoder": asdict(world.encoder.config),
        "world_model": asdict(world.world_model.config),
        "made_from": {name: inputs[name].content for name in inputs},
    }
    write_json(folder / "model.json", model)
    return world


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file that a person can read."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def run(config: BundleConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Gather weights, contract and measurements into the payload and prove that it loads."""
    planning = inputs["planning_report"].json("report.json")
    probes = [part.json("report.json") for part in inputs.parts("probe_report").values()]
    world = export_weights(inputs, out.payload)
    pace = read_pace(inputs["world_model"])
    described = describe(config, world, pace, planning["settings"])
    write_json(out.payload / "planner.json", described)
    contents = {"encoder": inputs["cooled_encoder"].content,
                "world_model": inputs["world_model"].content}  # fmt: skip
    write_readme(out.payload / "README.md", described, contents, planning, probes)
    files = sorted(path for path in out.payload.iterdir() if path.name != "digests.json")
    write_json(out.payload / "digests.json", {path.name: digest_file(path) for path in files})
    opened = load_planner(out.payload).world
    networks = (opened.encoder, opened.world_model)
    return {
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        "bytes": sum(path.stat().st_size for path in out.payload.iterdir()),
        "files": len(files) + 1,
    }


STAGE = Stage("planner_bundle", version=2, config=BundleConfig, run=run)
