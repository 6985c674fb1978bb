"""Isolation: a function called in a process of its own, which limits of time and memory end.

Files are untrusted: one may take a day to decode, ask for a hundred gigabytes, or crash the
decoder. The process that works on them is kept from call to call (it takes a second to start) and
started anew after it was ended. The kernel keeps the limits, so that they hold inside a library,
too. Whether a file is within its memory is the same on every machine of one architecture; whether
it is within its time depends on the machine, and on an equal one on little else: it is CPU time
that counts, and the clock (a minute and ten times as long) is for what waits for a disk or a
network.
"""

from __future__ import annotations

import atexit
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Annotated, Any, TypeVar

from pipelines.settings import Positive, at_least, settings
from storage.errors import UserError
from storage.pictures import TooLargeError

Item = TypeVar("Item")
Result = TypeVar("Result")
_LENGTH = struct.Struct(">Q")


@settings
class Limits:
    """What work on one file may take."""

    seconds: Positive = 3600.0
    """Seconds of CPU; by the clock, a minute and ten times as many."""
    memory_mb: Annotated[int, at_least(512)] = 4096
    """Memory of the process that works on it, MiB; the program itself takes 200 of them."""

    @property
    def by_the_clock(self) -> float:
        """Seconds that may pass until the answer."""
        return 60.0 + 10.0 * self.seconds


class LimitError(UserError, RuntimeError):
    """Work on a file went over a limit or crashed; the message says which, without the name."""


class _Child:
    """The process, and the pipes to it."""

    def __init__(self) -> None:
        self.parent, self.environment = os.getpid(), dict(os.environ)
        more = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.isolation"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment | more,
        )  # fmt: skip

    @property
    def mine(self) -> bool:
        """Whether it is a child of this process, and not of one that this was forked from."""
        return self.parent == os.getpid()

    @property
    def usable(self) -> bool:
        """Whether it runs, with the environment (credentials, say) of today."""
        return self.mine and self.process.poll() is None and self.environment == dict(os.environ)

    def ask(self, question: Any) -> tuple[str, Any]:
        """One call; EOFError when the process ended instead of answering."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            _send(self.process.stdin, question)
        except BrokenPipeError:
            raise EOFError from None
        return _receive(self.process.stdout)

    def end(self) -> int:
        """Kill it, unless it has ended; how it ended."""
        self.process.kill()
        return self.process.wait()


_LOCK = threading.Lock()
_CHILDREN: list[_Child] = []


@atexit.register
def _end_children() -> None:
    while _CHILDREN:
        child = _CHILDREN.pop()
        if child.mine:
            child.end()


def isolated(function: Callable[[Item], Result], item: Item, limits: Limits) -> Result:
    """`function(item)`, called in another process under limits.

    Args:
        function: a top-level function; it, the item, its result and its errors pickle.
        item: its argument.
        limits: what the call may take.

    Raises:
        LimitError: the call took more, or the process crashed. What the function raises is raised.
    """
    with _LOCK:
        child = _CHILDREN.pop() if _CHILDREN else _Child()
        if not child.usable:
            if child.mine:
                child.end()
            child = _Child()
        try:
            kind, value = child.ask((function, item, limits))
        except EOFError:
            raise LimitError(_ended(child.process.wait(), limits)) from None
        except BaseException:  # an answer that nobody waits for must not meet the next question
            child.end()
            raise
        if kind == "memory":
            child.end()
            raise LimitError(_too_large(limits))
        _CHILDREN.append(child)
    if kind == "error":
        raise value
    return value


def _ended(code: int, limits: Limits) -> str:
    """What the way in which the process ended says."""
    if code == -signal.SIGPROF:
        return f"takes more than {limits.seconds:g} s of CPU (limits.seconds)"
    if code == -signal.SIGALRM:
        return f"takes more than {limits.by_the_clock:g} s by the clock (limits.seconds)"
    if code == -signal.SIGKILL:
        return _too_large(limits)
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"crashes what reads it ({name})"


def _too_large(limits: Limits) -> str:
    return f"takes more than {limits.memory_mb} MiB of memory (limits.memory_mb)"


def _send(stream: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301  # written by this module on the other end


# --------------------------------------------------------------------------- in the other process


def _serve() -> None:
    """Answer calls until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get among the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks ends this
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            function, item, limits = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(answers, _answer(function, item, limits))


def _answer(function: Callable[[Any], Any], item: Any, limits: Limits) -> tuple[str, Any]:
    memory, most = limits.memory_mb << 20, resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.by_the_clock)
    try:
        answer: tuple[str, Any] = ("result", function(item))
    except (MemoryError, TooLargeError):
        answer = ("memory", None)
    except Exception as error:
        answer = ("error", error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return answer


def _end_with(parent: int) -> None:
    """End when the process that asks has ended, killed say, in the middle of a call."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    _serve()
