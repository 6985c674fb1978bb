"""Progress of long work, with its rate and expected end: a bar in a terminal, plain lines in a log.

The only module that imports tqdm.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_COUNT = "{n_fmt}/{total_fmt}{postfix}, {rate_noinv_fmt}, ends {eta:%H:%M:%S}"
_LOG_EVERY = 2.0  # seconds


class _Lines(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A line of its own for every look, where a bar cannot be drawn over itself."""

    last_told: int
    disable: bool

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the count once for every value of it."""
        del msg, pos
        if self.n > self.last_told:
            self.last_told = self.n
            print(f"    {self}", file=self.fp, flush=True)
        return True

    def close(self) -> None:
        """Print the last count if it has not been printed, and be done."""
        if not self.disable:
            self.display()
            self.disable = True

    def __init__(self, *values: Any, **named: Any) -> None:
        self.last_told = named["initial"]
        super().__init__(*values, **named)


def progress(noun: str, total: int, done: int = 0) -> tqdm[Any]:
    """Progress through `total` things of which `done` were done before; use it as a context.

    `update()` notes that one more is done; the rate is that of this session, its average.
    """
    terminal = sys.stderr.isatty()
    return (tqdm if terminal else _Lines)(
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
