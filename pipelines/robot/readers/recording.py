"""What every reader gives: one recording at a time, as the robot saw and measured it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """One episode of T rows."""

    name: str
    """Unique in its data set."""
    frames: NDArray[np.uint8]
    """[T, H, W, 3] RGB of one camera."""
    states: NDArray[np.float64]
    """[T, 7]: xyz in metres, extrinsic-xyz Euler angles in radians, gripper 0 open to 1 closed."""
    task: str
    """The sentence that goes with it, or ""."""
    success: bool | None
    """The data set's own flag, or None."""


class Reader(Protocol):
    """Reads one layout."""

    name: str

    def recognises(self, folder: Path) -> bool:
        """Whether a folder has this layout, by its index files alone."""
        ...

    def recordings(self, folder: Path, camera: str | None) -> Iterator[Recording]:
        """Every episode. Raises InputError that says which file, and what is wrong with it."""
        ...
