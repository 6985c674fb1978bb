"""What every test may ask for: the pack of real clips, and a place for a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips (`VJEPA_REAL_DATA`); absent, a skip at home and a failure in CI."""
    folder = Path(os.environ.get("VJEPA_REAL_DATA", ROOT.parent / "shared" / "data"))
    if (folder / "videos").is_dir():
        return folder
    message = f"no real clips at {folder}: set VJEPA_REAL_DATA to the folder that has videos/"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
