"""What a test needs and a machine may lack: a skip at home, a failure in CI (not a test itself)."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_at_home(message: str) -> NoReturn:
    """End the test for want of something; `message` says what is missing and how to get it.

    With `CI` set nothing may go unproven, so there the test fails.
    """
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
