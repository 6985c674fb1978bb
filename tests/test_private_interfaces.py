"""What the rooms use of dagster, ray and torch that their makers do not promise to keep: the list.

A name of theirs that begins with an underscore, or an environment variable that a library reads, is
looked for in the source of the rooms, so that a new one cannot come in without being listed here
with its reason; and each is looked for in the library, so that an upgrade that moves one fails
here, by its name, and not in the middle of a training.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.test_architecture import ROOMS, modules, parsed

LIBRARIES = ("dagster", "ray", "torch")
UNDOCUMENTED = ("torch.ops.", "ray.train.v2.")
"""Where a name is not promised although it begins with a letter."""
PRIVATE = {
    # The public package has no name for "a blocking check failed": dg.materialize raises it.
    "dagster._core.errors.DagsterAssetCheckFailedError",
    # A number that is refused out of range as it is typed: dg.Field takes one, and has no base.
    "dagster._config.ConfigType",
    "dagster._config.ConfigTypeKind.ANY",
    "dagster._config.PostProcessingError",
    # The tags by which Dagster tells what a materialization was made from: those of a backfill's
    # partitions are filed one by one, each with a data version of its own.
    "dagster._core.execution.plan.execute_step._build_data_version_tags",
    "dagster._core.execution.plan.execute_step._get_input_provenance_data",
    # Which materialization a verdict is about: the page shows it beside that one.
    "dagster._core.definitions.asset_checks.asset_check_evaluation"
    ".AssetCheckEvaluationTargetMaterializationData",
    # Whether a cluster answers and takes our token, before ray.init tries for minutes.
    "ray._private.services.canonicalize_bootstrap_address",
    "ray._raylet.GcsClient",
    # One launch for all tensors of a network, as torch's own optimizers do it.
    "torch._foreach_lerp_",
    # A check on the device that does not wait for it.
    "torch._assert_async",
    # vmap and grad of torch.func see tensors that oneDNN must not be given.
    "torch._C._are_functorch_transforms_active",
    # oneDNN's product with the activation in it, which nn.Linear does not use in float32.
    "torch.ops.mkldnn._linear_pointwise",
}
VARIABLES = {
    # variable: where the library says its name, below its folder
    "RAY_ADDRESS": "ray/_private/ray_constants.py",
    "RAY_USAGE_STATS_ENABLED": "ray/_common/usage/usage_constants.py",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "ray/_private/accelerators/accelerator.py",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "ray/train/v2/_internal/constants.py",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "ray/_private/ray_constants.py",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "ray/serve/_private/constants.py",
    "DAGSTER_HOME": "dagster/_core/instance/config.py",
    "DAGSTER_DISABLE_TELEMETRY": "dagster/_core/telemetry_upload.py",
}


def bound_names(tree: ast.Module) -> dict[str, str]:
    """What each name stands for that a module imports from the libraries: `dg` -> `dagster`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return {name: path for name, path in names.items() if path.split(".")[0] in LIBRARIES}


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` for that expression; None where it does not begin with a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := dotted(node.value)):
        return f"{front}.{node.attr}"
    return None


def used_paths(tree: ast.Module) -> set[str]:
    """Every dotted path of the libraries that a module imports or reads."""
    names = bound_names(tree)
    found = set(names.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] in LIBRARIES}
        elif isinstance(node, ast.Attribute) and (path := dotted(node)):
            first, _, rest = path.partition(".")
            found |= {f"{names[first]}.{rest}"} if first in names else set()
    return found


def private(path: str) -> str | None:
    """The path up to the last part that is private; None where all parts are public."""
    if path.startswith(UNDOCUMENTED):
        return path
    parts = path.split(".")
    marked = [i for i, part in enumerate(parts) if re.match(r"_(?!_)", part)]
    if not marked:
        return None
    # The private name itself, or what is taken out of a private module.
    inside = marked[-1] == len(parts) - 1 or not parts[1].startswith("_")
    return ".".join(parts[: marked[-1] + 1]) if inside else path


def environment_variables(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^(?:RAY|DAGSTER|TORCH|PYTORCH)_[A-Z_0-9]+$", node.value)


def longest(paths: set[str]) -> set[str]:
    """Without `torch._C` where `torch._C._something` is there, too."""
    return {p for p in paths if not any(other.startswith(f"{p}.") for other in paths)}


def test_every_private_interface_is_listed() -> None:
    used = {path for module in modules(*ROOMS) for path in used_paths(parsed(module))}
    assert len(used) > 100
    assert longest({found for path in used if (found := private(path))}) == PRIVATE


def test_every_environment_variable_is_listed() -> None:
    trees = [parsed(module) for module in modules(*ROOMS)]
    assert {name for tree in trees for name in environment_variables(tree)} == VARIABLES.keys()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.ops.mkldnn._linear(x)", {"torch.ops.mkldnn._linear"}),
        ("import torch\ntorch.ops.aten.mm.default(x)", {"torch.ops.aten.mm.default"}),
        ("import ray.train.v2.api.exceptions", {"ray.train.v2.api.exceptions"}),
        ("import torch.nn.functional as F\nF._scaled(x)", {"torch.nn.functional._scaled"}),
        ("from dagster._core.errors import E\nE()", {"dagster._core.errors.E"}),
        ("import dagster as dg\ndg._core.run.go()", {"dagster._core.run.go"}),
        ("from ray import _private\n_private.services.x", {"ray._private.services.x"}),
        ("from torch import nn\nnn.Linear\ntorch = 3", set()),
        ("import numpy as np\nnp._core", set()),
    ],
)
def test_what_is_private_is_recognised(source: str, found: set[str]) -> None:
    paths = used_paths(ast.parse(source))
    assert longest({path for p in paths if (path := private(p))}) == found


@pytest.mark.parametrize("path", sorted(PRIVATE))
def test_the_library_still_has_it(path: str) -> None:
    parts = path.split(".")
    if path.startswith("torch.ops.mkldnn.") and not torch.backends.mkldnn.is_available():
        return  # built without oneDNN: the rooms ask for the same before they use it
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 1):
        name = ".".join(parts[: i + 1])
        if not hasattr(found, part) and "ops" not in parts[:i]:
            importlib.import_module(name)
        assert hasattr(found, part), f"{name} is gone: find what took its place, or pin its library"
        found = getattr(found, part)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_the_library_still_reads_it(name: str) -> None:
    library = find_spec(name.split("_")[0].lower())
    assert library is not None and library.origin is not None
    file = Path(library.origin).parent.parent / VARIABLES[name]
    assert file.is_file(), f"{VARIABLES[name]} is gone: see who reads {name} now"
    text = file.read_text()
    assert re.search(rf"\b{name}\b", text), f"{VARIABLES[name]} does not read {name} any more"
