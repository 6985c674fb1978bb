"""How far a training is: a line for people, and a small file that outlives the process.

The file `progress.json` (in the run's scratch, never in an artifact) is written by the main
worker, and read by whoever wants to know: the process that started the workers, or a page.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines.progress import line, progress
from pipelines.training.curves import open_curves
from pipelines.training.runs import Run
from pipelines.training.tasks import DrawsFromSources, LoopSettings, Task
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
    lr: float = 0.0
    waiting: float = 0.0
    """Share of these seconds that the main worker stood still for its batches."""
    diagnosed: Mapping[str, float] = field(default_factory=dict)
    """What was last measured of the networks, e.g. effective_rank."""
    drawn: Mapping[str, int] = field(default_factory=dict)
    """Source -> samples that the main worker trained on in this session."""

    def line(self) -> str:
        """E.g. `encoder step 40/240, loss 0.5120, 31.2 samples/s, ends 14:32:05`."""
        return line(
            f"{self.noun} step", self.done, self.steps, session=self.trained_steps,
            seconds=self.seconds, told=self.told,
        )  # fmt: skip

    @property
    def told(self) -> str:
        """E.g. `loss 0.5120, lr 1.5e-03, 31.2 samples/s, 4 % waiting for data, effective rank 12`,
        and which share of the samples came from which source.
        """
        parts = [
            f"loss {self.loss:.4f}", f"lr {self.lr:.2g}",
            f"{self.samples_per_second:.1f} samples/s", f"{self.waiting:.0%} waiting for data",
        ]  # fmt: skip
        parts += [f"{n.replace('_', ' ')} {value:.4g}" for n, value in self.diagnosed.items()]
        if total := sum(self.drawn.values()):
            shares = (f"{name} {self.drawn[name] / total:.0%}" for name in sorted(self.drawn))
            parts.append(f"drawn {' '.join(shares)}")
        return ", ".join(parts)


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
        self._diagnosed: dict[str, float] = {}
        self._troubles = _Troubles()

    def step(
        self,
        done: int,
        row: Mapping[str, float],
        waited: float = 0.0,
        diagnosis: Mapping[str, float] | None = None,
        drawn: Mapping[str, int] | None = None,
    ) -> dict[str, float]:
        """Note that a step is done; returns the numbers of the moment, for curves.

        Args:
            done: steps done.
            row: of the log.
            waited: seconds of this session spent waiting for batches.
            diagnosis: what was measured of the networks after this step, if anything was.
            drawn: source -> samples of this session.
        """
        self._trained += 1
        self._diagnosed = {**self._diagnosed, **(diagnosis or {})}
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate, waiting = self._trained * self._samples / seconds, waited / seconds
        self._write(done, row, rate, waiting, drawn or {})
        return {"samples_per_second": rate, "waiting_for_data": waiting}

    def _write(
        self, done: int, row: Mapping[str, float], rate: float, waiting: float,
        drawn: Mapping[str, int],
    ) -> None:  # fmt: skip
        now = time.monotonic()
        if done < self._steps and now - self._written < self._every:
            return
        self._written = now
        look = Progress(
            self._noun, done, self._steps, row["loss"], rate, self._trained, now - self._started,
            row.get("lr", 0.0), waiting, self._diagnosed, dict(drawn),
        )  # fmt: skip
        with self._troubles.told_once():
            self._run.note(PROGRESS, json.dumps(asdict(look)).encode())


class StepTeller:
    """What the main worker says of each step: to `progress.json`, and wherever curves go."""

    def __init__(self, task: Task, settings: LoopSettings, run: Run, done: int) -> None:
        self._task, self._steps, self._done = task, settings.steps, done
        self._writer = ProgressWriter(run, settings.noun, settings.steps, settings.samples_per_step)
        self._curves = open_curves(
            settings.tensorboard, settings.mlflow, settings.noun, run.recipe, done
        )

    def step(
        self, done: int, row: Mapping[str, float], diagnosis: Mapping[str, float], waited: float
    ) -> None:
        """Tell the numbers of a step; `waited`: seconds of this session spent on batches."""
        drawn = self._task.drawn if isinstance(self._task, DrawsFromSources) else {}
        now = self._writer.step(done, row, waited, diagnosis, drawn)
        values = {name: value for name, value in row.items() if name != "step"} | now
        values |= {f"drawn/{source}": float(count) for source, count in drawn.items()}
        for curves in self._curves:
            curves.write(done, values)
        self._done = done

    def close(self) -> None:
        """Have all curves where they belong."""
        for curves in self._curves:
            curves.close(finished=self._done == self._steps)


def read_progress(folder: Path) -> Progress | None:
    """The last look written in a run's folder, or None before the first step."""
    try:
        return Progress(**json.loads((folder / PROGRESS).read_text()))
    except FileNotFoundError:
        return None


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
