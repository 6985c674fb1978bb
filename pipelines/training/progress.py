"""How far a training is: a line for people, and a small file that outlives the process.

The file `progress.json` (in the run's scratch, never in an artifact) is written by the main
worker, and read by whoever wants to know: the process that started the workers, or a page.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.progress import line, progress
from pipelines.training.runs import Run
from storage.errors import UserError

PROGRESS = "progress.json"
_WRITE_EVERY = 0.5  # seconds
_PRINT_EVERY = 5.0


@dataclass(frozen=True)
class Progress:
    """One look at a training."""

    noun: str
    """What is being trained, e.g. "encoder"."""
    done: int
    """Steps done, those before a resume included."""
    steps: int
    loss: float
    samples_per_second: float
    """Over this session."""
    trained_steps: int
    """Steps of this session."""
    seconds: float
    """Seconds spent on them, checkpoints included."""

    def line(self) -> str:
        """E.g. `encoder step 40/240, loss 0.5120, 31.2 samples/s, ends 14:32:05`."""
        return line(
            f"{self.noun} step", self.done, self.steps, session=self.trained_steps,
            seconds=self.seconds, told=self.told,
        )  # fmt: skip

    @property
    def told(self) -> str:
        """E.g. `loss 0.5120, 31.2 samples/s`."""
        return f"loss {self.loss:.4f}, {self.samples_per_second:.1f} samples/s"


class _Troubles:
    """Errors of a disk or bucket that keep progress from being shown, and end no training."""

    def __init__(self) -> None:
        self._told = False

    @contextmanager
    def told_once(self) -> Iterator[None]:
        """Say on stderr what goes wrong in the block, the first time only, and go on."""
        try:
            yield
        except (UserError, OSError) as error:
            if not self._told:
                print(f"    progress is not shown: {error}", file=sys.stderr, flush=True)
            self._told = True


class ProgressWriter:
    """Keeps `progress.json` current, at most twice a second; one that cannot be written is told
    once on stderr, and training goes on.
    """

    def __init__(self, run: Run, noun: str, steps: int, samples_per_step: int) -> None:
        self._run = run
        # A bucket is written to every few seconds, as often as somebody looks.
        self._every = _WRITE_EVERY if run.work.shared else _PRINT_EVERY
        self._noun, self._steps, self._samples = noun, steps, samples_per_step
        self._started = time.monotonic()
        self._written = 0.0
        self._trained = 0
        self._troubles = _Troubles()

    def step(self, done: int, loss: float) -> None:
        """Note that a step is done."""
        self._trained += 1
        now = time.monotonic()
        if done < self._steps and now - self._written < self._every:
            return
        self._written = now
        seconds = now - self._started
        rate = self._trained * self._samples / max(seconds, 1e-9)
        look = Progress(self._noun, done, self._steps, loss, rate, self._trained, seconds)
        with self._troubles.told_once():
            self._run.note(PROGRESS, json.dumps(asdict(look)).encode())


def read_progress(folder: Path) -> Progress | None:
    """The last look written in a run's folder, or None before the first step."""
    path = folder / PROGRESS
    return Progress(**json.loads(path.read_text())) if path.is_file() else None


@contextmanager
def shown(run: Run, folder: Path) -> Iterator[None]:
    """Print a run's progress line every few seconds while the block runs, and once at its end.

    `folder` has what there is to see of the run: its own folder, or one that is kept current here.
    """
    run.remove_note(PROGRESS)
    (folder / PROGRESS).unlink(missing_ok=True)
    stop = threading.Event()
    thread = threading.Thread(target=_print_until, args=(run, folder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _print_until(run: Run, folder: Path, stop: threading.Event) -> None:
    last, bar, troubles = None, None, _Troubles()
    while True:
        ended = stop.wait(_PRINT_EVERY)
        with troubles.told_once():
            run.mirror(folder, PROGRESS)
        look = read_progress(folder)
        if look is not None and look != last:
            last = look
            if sys.stderr.isatty():
                bar = bar or progress(look.noun, look.steps, look.done - look.trained_steps)
                bar.set_postfix_str(look.told, refresh=False)
                bar.update(look.done - bar.n)
            else:
                print(f"    {look.line()}", file=sys.stderr, flush=True)
        if ended:
            if bar is not None:
                bar.close()
            return
