"""Progress of long work, with its rate and expected end: a bar in a terminal, plain lines in a log.

What has been running for a while is named, and the expected end moves on with it.

The only module that imports tqdm.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from storage.confined import legible

_COUNT = "{n_fmt}/{total_fmt}{postfix}, {rate_noinv_fmt}, ends {eta:%H:%M:%S}"
_LOG_EVERY = 2.0  # seconds
# Seconds after which what is running is named, and between two lines of a log that do so.
_SLOW = 30.0
_WIDTH = 60  # characters of a name that are shown, its end


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that names what it waits for."""

    def watch(self, running: Mapping[str, float]) -> None:
        """Note what is running; running: key -> when it began, by `time.monotonic`."""
        slow = {key: time.monotonic() - began for key, began in running.items()}
        slow = {key: seconds for key, seconds in slow.items() if seconds >= _SLOW}
        self.set_postfix_str(_waiting(slow), refresh=bool(slow))


class _Lines(Bar):
    """A line of its own for every look, where a bar cannot be drawn over itself."""

    last_told: int
    told_at: float
    disable: bool

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the count once for every value of it, and again while it waits."""
        del msg, pos
        waited = self.postfix and time.monotonic() - self.told_at >= _SLOW
        if self.n > self.last_told or waited:
            self.last_told, self.told_at = self.n, time.monotonic()
            print(f"    {self}", file=self.fp, flush=True)
        return True

    def close(self) -> None:
        """Print the last count if it has not been printed, and be done."""
        if not self.disable:
            self.display()
            self.disable = True

    def __init__(self, *values: Any, **named: Any) -> None:
        self.last_told, self.told_at = named["initial"], time.monotonic()
        super().__init__(*values, **named)


def _waiting(slow: Mapping[str, float]) -> str:
    """`big.mp4 runs for 6:12 and 2 more`, the longest first."""
    if not slow:
        return ""
    key, seconds = max(slow.items(), key=lambda entry: entry[1])
    shown = legible(key)
    shown = shown if len(shown) <= _WIDTH else f"…{shown[1 - _WIDTH :]}"
    more = f" and {len(slow) - 1} more" if len(slow) > 1 else ""
    return f"{shown} runs for {tqdm.format_interval(seconds)}{more}"


def progress(noun: str, total: int, done: int = 0) -> Bar:
    """Progress through `total` things of which `done` were done before; use it as a context.

    `update()` notes that one more is done; the rate is that of this session, its average.
    """
    terminal = sys.stderr.isatty()
    return (Bar if terminal else _Lines)(
        total=total,
        initial=done,
        desc=noun,
        unit="",
        smoothing=0,
        miniters=1,
        mininterval=0.2 if terminal else _LOG_EVERY,
        dynamic_ncols=True,
        file=sys.stderr,
        bar_format="{desc} {percentage:3.0f}%|{bar}| " + _COUNT if terminal else "{desc} " + _COUNT,
    )


def line(noun: str, done: int, total: int, *, session: int, seconds: float, told: str) -> str:
    """`<noun> <done>/<total>, <told>, ends 14:32:05`, `session` of them done in `seconds`."""
    return str(
        tqdm.format_meter(
            done, total, seconds, initial=done - session, prefix=noun, postfix=told,
            bar_format="{desc} {n_fmt}/{total_fmt}{postfix}, ends {eta:%H:%M:%S}",
        )
    )  # fmt: skip
