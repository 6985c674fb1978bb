"""Downloads: one file by HTTP, whole or not at all, gone on with where an earlier try ended."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.answers import Answer, DownloadError, FetchConfig, talking
from storage.digests import digest_file
from storage.places import PlaceError, write_file

_BLOCK = 1 << 16
_LONGEST_PAUSE = 60.0  # seconds
_LATER = (408, 425, 429)  # besides all from 500 on


@dataclass(frozen=True)
class Download:
    """Bytes that were fetched."""

    sha256: str
    size: int


def download(
    address: str, part: Path, config: FetchConfig, stop: threading.Event, sha256: str | None = None
) -> Download:
    """Fetch a file to `part`, from where an earlier call left it, and check it.

    Args:
        address: of http or https.
        part: where its bytes go; beside it a note remembers what they are a part of.
        config: limits and patience.
        stop: ends the wait for a next try, and the download within a moment.
        sha256: what its bytes have to be, if that is known.

    Raises:
        DownloadError: it cannot be had; `part` stays for a later call where that may help.
        PlaceError: this machine's disk fails.
    """
    ends = time.monotonic() + config.seconds
    for attempt in range(1, config.tries + 1):
        try:
            return _tried(address, part, config, stop, sha256, ends)
        except DownloadError as error:
            if not error.passes:
                _forget(part)
            if stop.is_set() or not error.passes:
                raise
            pause = min(config.pause * 2 ** (attempt - 1), _LONGEST_PAUSE)
            if attempt == config.tries or time.monotonic() + pause >= ends:
                raise DownloadError(f"{error} ({_times(attempt)})", passes=True) from None
        stop.wait(pause)
    raise AssertionError("the last try returns or raises")


def gone(address: str, config: FetchConfig) -> str | None:
    """Why a server says that a file is no longer there; None while it may be.

    Raises:
        DownloadError: nobody can tell now.
    """
    try:
        with talking(config, time.monotonic() + config.seconds) as talk:
            answer = talk.ask(address, {"Range": "bytes=0-0"})
            if answer.status == 416:  # an empty file is there
                return None
            _judge(answer)
    except DownloadError as error:
        if error.gone:
            return str(error)
        raise
    return None


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _tried(
    address: str, part: Path, config: FetchConfig, stop: threading.Event, sha256: str | None,
    ends: float,
) -> Download:  # fmt: skip
    """One try, which goes on where the last one ended."""
    done, note = _begun(part, sha256)
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and note.get("mark"):
        headers["If-Range"] = note["mark"]
    with talking(config, ends) as talk:
        answer = talk.ask(address, headers)
        if answer.status == 416:
            _forget(part)
            raise DownloadError("has other bytes than before", passes=True)
        _judge(answer)
        start, total = _extent(answer, done)
        if total is not None and total > config.most_mb << 20:
            raise DownloadError(f"has {total} bytes: {_too_large(config)}")
        _write(part, answer, start, config, stop)
    return _finished(part, start, total, sha256)


def _judge(answer: Answer) -> None:
    """DownloadError unless a server gives the file."""
    if answer.status in (200, 206):
        coding = answer.headers.get("Content-Encoding", "identity")
        if coding != "identity":
            raise DownloadError(f"comes as {coding!r}, which was not asked for")
        return
    name = http.client.responses.get(answer.status)
    told = f"answers HTTP {answer.status}{f' ({name})' if name else ''}"
    passes = answer.status in _LATER or answer.status >= 500
    raise DownloadError(told, passes=passes, gone=answer.status in (404, 410))


def _extent(answer: Answer, done: int) -> tuple[int, int | None]:
    """(where the bytes of an answer begin, how many the whole file has, if that is said)."""
    promised = _number(answer.headers.get("Content-Length", ""))
    if answer.status == 200:
        return 0, promised
    unit, _, told = answer.headers.get("Content-Range", "").partition(" ")
    span, _, whole = told.partition("/")
    if unit != "bytes" or not span.startswith(f"{done}-"):
        raise DownloadError("sends another part than was asked for")
    if (told_whole := _number(whole)) is not None:
        return done, told_whole
    return done, None if promised is None else done + promised


def _number(text: str) -> int | None:
    """A number of bytes; None for what is none, or longer than any (int refuses 4300 digits)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _begun(part: Path, sha256: str | None) -> tuple[int, dict[str, str]]:
    """Bytes that are there and may be gone on with, and the note about them."""
    try:
        note = json.loads(part.with_suffix(".json").read_bytes())
        done = part.stat().st_size
    except (OSError, ValueError):
        return 0, {}
    usable = isinstance(note, dict) and (note.get("mark") or sha256)
    return (done, note) if usable else (0, {})


def _note(part: Path, answer: Answer) -> None:
    """Note what the bytes that follow are a part of: a strong ETag, or a date."""
    etag = answer.headers.get("ETag", "")
    mark = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    write_file(part.with_suffix(".json"), json.dumps({"mark": mark}).encode())


def _forget(part: Path) -> None:
    for path in (part, part.with_suffix(".json")):
        path.unlink(missing_ok=True)


def _write(
    part: Path, answer: Answer, start: int, config: FetchConfig, stop: threading.Event
) -> None:
    size = start
    try:
        with open(part, "ab" if start else "wb") as stream:
            if not start:  # after what was there is gone: a kill never leaves it under this note
                _note(part, answer)
            for block in _blocks(answer):
                size += len(block)
                if size > config.most_mb << 20:
                    raise DownloadError(f"does not end after {size} bytes: {_too_large(config)}")
                if stop.is_set():
                    raise DownloadError("was interrupted", passes=True)
                stream.write(block)
    except _BrokenError as broken:
        raise broken.error from None
    except OSError as error:
        told = f"{part.parent}: {error.strerror}; make room there, or set execution.cache"
        raise PlaceError(told) from None


class _BrokenError(Exception):
    """What a connection failed at, told from what a disk failed at."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _blocks(answer: Answer) -> Iterator[bytes]:
    try:
        yield from answer.stream(_BLOCK)
    except OSError as error:
        raise _BrokenError(error) from None


def _too_large(config: FetchConfig) -> str:
    return f"more than {config.most_mb} MiB (raw_videos.fetch.most_mb)"


def _finished(part: Path, start: int, total: int | None, sha256: str | None) -> Download:
    """What was fetched, if it is what was promised."""
    size = part.stat().st_size
    if total is not None and size != total:
        raise DownloadError(f"sends {size} of {total} bytes", passes=True)
    found = digest_file(part)
    if sha256 and found != sha256:
        _forget(part)
        told = f"has other bytes than the list says (sha256 {found[:12]}, not {sha256[:12]})"
        raise DownloadError(told, passes=start > 0)
    return Download(found, size)
