"""An archive host on the loopback interface that answers as it is told to (no tests in here)."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Act = Callable[[BaseHTTPRequestHandler], None]


class Host:
    """A server; `acts` says what it does when it is asked for a path."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.acts: dict[str, Act] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        """What was asked for in ranges."""
        self.at_once = self.most_at_once = 0
        self.stopped = threading.Event()
        host, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                with lock:
                    host.asked[path] += 1
                    host.at_once += 1
                    host.most_at_once = max(host.at_once, host.most_at_once)
                    host.ranges += filter(None, [self.headers.get("Range")])
                try:
                    host.acts.get(path, status(404))(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with lock:
                        host.at_once -= 1

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.at = f"http://{address}:{self.server.server_port}"


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Host]:
    """A host that answers during the block."""
    host = Host(address)
    thread = threading.Thread(target=host.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        host.stopped.set()
        host.server.shutdown()
        thread.join()
        host.server.server_close()


def file(data: bytes, etag: str = '"a"', pause: float = 0.0) -> Act:
    """Give a file, or the range of it that is asked for."""

    def act(request: BaseHTTPRequestHandler) -> None:
        time.sleep(pause)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        part = data
        if asked and request.headers.get("If-Range", etag) == etag:
            part = data[int(asked[1]) : int(asked[2] or len(data)) + 1]
            request.send_response(206)
            end = int(asked[1]) + len(part) - 1
            request.send_header("Content-Range", f"bytes {asked[1]}-{end}/{len(data)}")
        else:
            request.send_response(200)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        request.wfile.write(part)

    return act


def part_of(data: bytes, promised: int, etag: str = "") -> Act:
    """Promise so many bytes, give `data`, and hang up."""

    def act(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if etag:
            request.send_header("ETag", etag)
        request.send_header("Content-Length", str(promised))
        request.end_headers()
        request.wfile.write(data)

    return act


def status(code: int, leads_to: str = "") -> Act:
    """Answer with a status alone."""

    def act(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        if leads_to:
            request.send_header("Location", leads_to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return act


def hang(host: Host, *, trickle: bytes = b"", every: float = 0.05) -> Act:
    """Say nothing, or `trickle` again and again, without end."""

    def act(request: BaseHTTPRequestHandler) -> None:
        while not host.stopped.wait(every):
            if trickle:
                request.wfile.write(trickle)
                request.wfile.flush()

    return act


def endless(host: Host) -> Act:
    """Send without end, and without a promise."""

    def act(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not host.stopped.is_set():
            request.wfile.write(bytes(1 << 16))

    return act


def in_turn(*acts: Act) -> Act:
    """Another act each time; the last one again and again."""
    left = list(acts)

    def act(request: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request)

    return act
