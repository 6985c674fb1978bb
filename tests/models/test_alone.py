"""The room stands alone: all of models/ imports, and works, with torch and safetensors only.

Proved in a fresh interpreter that refuses to import anything else from outside the standard library
but what torch itself needs at import. Nobody, torch included, gets numpy there; safetensors needs
it to write files.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib, pathlib, sys

sys.modules["numpy"] = None  # torch does without it, and only safetensors' writer needs it
import torch, safetensors.torch  # what they bring along is theirs

brought = {name.partition(".")[0] for name in sys.modules}


class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed:
            raise ImportError(f"models must not import {name}")


allowed = brought | set(sys.stdlib_module_names) | {"models", "torch", "safetensors"}
sys.meta_path.insert(0, Refuse())
modules = sorted(path.stem for path in pathlib.Path("models").glob("*.py") if path.stem[0] != "_")
for name in modules:
    module = importlib.import_module(f"models.{name}")
    given = {value.__module__ for value in vars(module).values() if isinstance(value, type)}
    foreign = {top.partition(".")[0] for top in given} - {
        "models", "torch", "safetensors", *sys.stdlib_module_names
    }
    assert not foreign, (name, foreign)

from models.encoder import Encoder, EncoderConfig
from models.masks import SHORT_RANGE, multiblock_masks

config = EncoderConfig(width=24, depth=1, heads=2, mlp_hidden=24, patch=8, frames=2, size=64)
context, _ = multiblock_masks(config.grid, 1, SHORT_RANGE, 0, 0)
out = Encoder(config)(torch.zeros(1, 3, 2, 64, 64), context)
assert out.shape == (1, context.shape[1], 24)
try:
    import einops
except ImportError as error:
    assert "must not import" in str(error)
else:
    raise AssertionError("the refusal does not refuse")
print(len(modules), "modules")
"""


def test_torch_and_safetensors_are_enough() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == len(
        [path for path in (ROOT / "models").glob("*.py") if path.stem[0] != "_"]
    )
