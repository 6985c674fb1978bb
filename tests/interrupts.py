"""Children that Ctrl-C stops, wherever the suite was started (not a test itself).

A shell without job control starts `make test &` with SIGINT ignored, and what a process ignores,
its children ignore, too.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Processes that are started in here die of SIGINT again, as in the foreground."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
