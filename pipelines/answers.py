"""Answers: one request by HTTP, its redirects followed. The only module that imports urllib3.

Whoever wrote an address may not be trusted, nor whoever answers. Only http and https are spoken; a
host is looked up once for each connection, and the very address that was judged is connected to, so
that neither a redirect nor a name that changes its mind leads into a private network. A server that
hangs or trickles is left at a limit.

Messages name no query and no password of an address: both may be secrets.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated
from urllib.parse import urljoin

from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse as Answer
from urllib3.util.url import Url, parse_url

from pipelines.networks import Address, is_public, looked_up, within
from pipelines.settings import Count, Natural, Positive, between, settings
from storage.errors import UserError

__all__ = ["Answer", "DownloadError", "FetchConfig", "Talk", "checked", "talking"]

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_HOSTS = 4  # addresses of one name that are tried
# It warns of odd headers with the whole address, query included.
logging.getLogger("urllib3.connection").addFilter(lambda _: False)


@settings
class FetchConfig:
    """How files are fetched that a source names by their addresses."""

    at_once: Annotated[int, between(1, 256)] = 8
    """Files that are fetched at the same time."""
    seconds: Positive = 3600.0
    """What one file may take, all tries together."""
    silence: Positive = 30.0
    """Seconds that a server may say nothing."""
    most_mb: Count = 4096
    """The largest file, MiB."""
    tries: Count = 4
    """How often what may pass is tried: no answer, 500 and above, less than was promised."""
    pause: Positive = 1.0
    """Seconds before the second try; twice as many before each later one."""
    redirects: Natural = 5
    """Redirects that are followed."""
    private: tuple[str, ...] = ()
    """Private networks that may be fetched from, such as 10.0.0.0/8; into others nothing leads."""

    def __post_init__(self) -> None:
        for network in self.private:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"private: {error}; give a network such as 10.0.0.0/8") from None


class DownloadError(UserError, RuntimeError):
    """A file that cannot be had; one line that says why, without its address."""

    def __init__(self, reason: str, *, passes: bool = False, gone: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes
        """Whether it may be had later."""
        self.gone = gone
        """Whether the server says that there is no such file (any more)."""


def checked(address: str) -> Url:
    """An address taken apart; DownloadError for one that is none of http or https."""
    try:
        url = parse_url(address)
    except exceptions.LocationParseError:
        raise DownloadError("is no address; give one of http or https") from None
    if url.scheme not in ("http", "https") or not url.host:
        kind = f"is of {url.scheme}:" if url.scheme else "is no whole address"
        raise DownloadError(f"{kind}; give one of http or https")
    if url.auth:
        raise DownloadError("has a user name in it; give an address without")
    return url


class Talk:
    """A request and what it is redirected to; one at a time. Made by `talking`."""

    def __init__(self, config: FetchConfig, ends: float) -> None:
        self._config, self._ends = config, ends
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def ask(self, address: str, headers: Mapping[str, str]) -> Answer:
        """What answers a GET, redirects followed; its body is not read yet.

        Raises:
            DownloadError: it leads nowhere, or where nobody may go.
        """
        for hop in range(self._config.redirects + 1):
            try:
                answer = self._asked(checked(address), headers)
            except DownloadError as error:
                if not hop:
                    raise
                told = f"is redirected to what {error}"
                raise DownloadError(told, passes=error.passes) from None
            leads_to = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not leads_to:
                return answer
            self.close()
            try:
                address = urljoin(address, leads_to)
            except ValueError:
                raise DownloadError("is redirected to what is no address") from None
        raise DownloadError(f"is redirected more than {self._config.redirects} times")

    def cut(self) -> None:
        """End whatever is waited for, from another thread."""
        found = self._socket or (self._connection and self._connection.sock)
        if found:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._socket = None

    def told(self, error: Exception) -> DownloadError:
        """What went wrong on the way, in a line."""
        if time.monotonic() >= self._ends:
            told = f"takes more than {self._config.seconds:g} s (raw_videos.fetch.seconds)"
            return DownloadError(told, passes=True)
        if isinstance(error, exceptions.NewConnectionError | ConnectionRefusedError):
            return DownloadError("cannot be connected to", passes=True)
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            told = f"says nothing for {self._config.silence:g} s (raw_videos.fetch.silence)"
            return DownloadError(told, passes=True)
        if isinstance(error, ssl.SSLCertVerificationError):
            return DownloadError(f"has no valid certificate ({error.verify_message})")
        return DownloadError("breaks off", passes=True)

    def _asked(self, url: Url, headers: Mapping[str, str]) -> Answer:
        connection = self._connected(url)
        named = {"Host": url.netloc or "", "Accept-Encoding": "identity", "User-Agent": "vjepa2"}
        connection.request(
            "GET", url.request_uri, headers={**named, **headers}, preload_content=False,
            decode_content=False,
        )  # fmt: skip
        return connection.getresponse()

    def _connected(self, url: Url) -> HTTPConnection:
        """A connection to one of the addresses that the host has now, each judged before."""
        assert url.host is not None
        host, port = url.host.strip("[]"), url.port or (443 if url.scheme == "https" else 80)
        *others, last = _reachable(host, port, self._config)[:_MOST_HOSTS]
        for address in others:
            with suppress(exceptions.HTTPError):  # another one may answer
                return self._connected_to(str(address), host, port, url.scheme == "https")
        return self._connected_to(str(last), host, port, url.scheme == "https")

    def _connected_to(self, address: str, host: str, port: int, tls: bool) -> HTTPConnection:
        wait = self._config.silence
        self._connection = (
            HTTPSConnection(
                address, port, timeout=wait, server_hostname=host, cert_reqs="CERT_REQUIRED"
            )
            if tls
            else HTTPConnection(address, port, timeout=wait)
        )
        self._connection.connect()
        self._socket = self._connection.sock
        if time.monotonic() >= self._ends:  # the watch went off while there was nothing to cut
            raise TimeoutError
        return self._connection


def _reachable(host: str, port: int, config: FetchConfig) -> list[Address]:
    """What a name leads to and may be gone to; DownloadError when there is nothing."""
    try:
        found = looked_up(host, port)
    except (OSError, UnicodeError):
        raise DownloadError("has a host that nobody knows", passes=True) from None
    if open_to_us := [a for a in found if is_public(a) or within(a, config.private)]:
        return open_to_us
    raise DownloadError(f"leads to {found[0]}, which is private (raw_videos.fetch.private)")


@contextmanager
def talking(config: FetchConfig, ends: float) -> Iterator[Talk]:
    """Ask, and hang up at the end of the block; at `ends`, by `time.monotonic`, whatever happens.

    Raises:
        DownloadError: for whatever goes wrong on the way.
    """
    talk = Talk(config, ends)
    watch = threading.Timer(max(0.0, ends - time.monotonic()), talk.cut)
    watch.daemon = True
    watch.start()
    try:
        yield talk
        if time.monotonic() >= ends:  # what was cut may look as if it had ended
            raise talk.told(TimeoutError())
    except (exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise talk.told(error) from None
    finally:
        watch.cancel()
        talk.close()
