"""Claims: a download is whole or not at all; it goes on where it ended; what may pass is tried
again and what may not is not; a host that hangs, trickles or never ends is left at a limit, and the
memory is flat; nothing leads into a private network, by redirect or by a name that changes its
mind; certificates are checked; no query is told."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipelines import answers, downloads
from pipelines.answers import DownloadError, FetchConfig
from pipelines.downloads import Download, download, gone
from pipelines.networks import is_public, within
from pipelines.settings import SettingError
from storage.digests import digest_bytes
from storage.places import PlaceError
from tests.pipelines.hosts import Host, endless, file, hang, in_turn, part_of, serving, status

DATA = bytes(range(256)) * 1000
QUICK = FetchConfig(private=("127.0.0.1/32",), pause=0.01, silence=0.3, seconds=5.0, most_mb=1)
BRIEF = FetchConfig(private=("127.0.0.1/32",), pause=0.01, seconds=0.5, silence=5.0)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with serving() as found:
        yield found


def fetched(host: Host, path: str, root: Path, config: FetchConfig = QUICK, **given: str) -> bytes:
    got = download(f"{host.at}{path}", root / "part", config, threading.Event(), **given)
    data = (root / "part").read_bytes()
    assert got == Download(digest_bytes(data), len(data))
    return data


def refused(
    host: Host, path: str, root: Path, config: FetchConfig = QUICK, **given: str
) -> DownloadError:
    root.mkdir(exist_ok=True)
    with pytest.raises(DownloadError) as error:
        download(f"{host.at}{path}", root / "part", config, threading.Event(), **given)
    return error.value


def test_a_file_is_fetched_and_checked(host: Host, tmp_path: Path) -> None:
    host.acts["/a"] = file(DATA)
    assert fetched(host, "/a", tmp_path, sha256=digest_bytes(DATA)) == DATA
    error = refused(host, "/a", tmp_path / "other", sha256="0" * 64)
    assert str(error) == (
        f"has other bytes than the list says (sha256 {digest_bytes(DATA)[:12]}, not {'0' * 12})"
    )
    assert not error.passes and list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_what_does_not_pass_is_asked_once(host: Host, tmp_path: Path, code: int) -> None:
    host.acts[f"/{code}"] = status(code)
    error = refused(host, f"/{code}", tmp_path)
    assert str(error).startswith(f"answers HTTP {code} (") and not error.passes
    assert host.asked[f"/{code}"] == 1 and error.gone == (code in (404, 410))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_may_pass_is_tried_again_and_then_given_up(
    host: Host, tmp_path: Path, code: int
) -> None:
    host.acts[f"/{code}"] = in_turn(status(code), status(code), file(DATA))
    assert fetched(host, f"/{code}", tmp_path) == DATA
    host.acts["/forever"] = status(code)
    host.asked.clear()
    error = refused(host, "/forever", tmp_path / "x")
    assert str(error).startswith(f"answers HTTP {code} (") and str(error).endswith(" (4 times)")
    assert error.passes and host.asked["/forever"] == 4


def test_half_is_gone_on_with_where_it_ended(host: Host, tmp_path: Path) -> None:
    half = len(DATA) // 2
    host.acts["/half"] = in_turn(part_of(DATA[:half], len(DATA), '"a"'), file(DATA))
    host.ranges.clear()
    assert fetched(host, "/half", tmp_path) == DATA
    assert host.ranges == [f"bytes={half}-"]


def test_after_a_kill_it_goes_on_too_but_not_with_other_bytes(host: Host, tmp_path: Path) -> None:
    half, new = len(DATA) // 2, DATA[::-1]
    host.acts["/kill"] = part_of(DATA[:half], len(DATA), '"a"')
    refused(host, "/kill", tmp_path, FetchConfig(private=("127.0.0.0/8",), tries=1))
    assert (tmp_path / "part").stat().st_size == half
    host.acts["/kill"] = file(new, '"b"')
    host.ranges.clear()
    assert fetched(host, "/kill", tmp_path) == new and host.ranges == [f"bytes={half}-"]


def test_a_kill_leaves_no_bytes_under_the_note_of_others(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").write_bytes(b"of another file")
    host.acts["/note"] = file(DATA)

    def killed(part: Path, *_: object) -> None:
        real(part, *_)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    real = downloads._note
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "_note", killed)
        with pytest.raises(KeyboardInterrupt):
            fetched(host, "/note", tmp_path)
    assert (tmp_path / "part.json").exists()
    assert fetched(host, "/note", tmp_path) == DATA


def test_half_again_and_again_is_no_file(host: Host, tmp_path: Path) -> None:
    host.acts["/short"] = part_of(DATA[:1000], len(DATA))
    error = refused(host, "/short", tmp_path)
    assert str(error) == "breaks off (4 times)" and error.passes


def test_of_more_than_was_promised_the_promise_is_taken(host: Host, tmp_path: Path) -> None:
    host.acts["/more"] = part_of(DATA, 1000)
    assert fetched(host, "/more", tmp_path) == DATA[:1000]
    error = refused(host, "/more", tmp_path, sha256=digest_bytes(DATA))
    assert str(error).startswith("has other bytes than the list says")


def test_too_large_a_file_is_left_at_once_and_memory_is_flat(host: Host, tmp_path: Path) -> None:
    host.acts["/large"] = part_of(b"x", 2 << 20)
    error = refused(host, "/large", tmp_path)
    assert str(error) == f"has {2 << 20} bytes: more than 1 MiB (raw_videos.fetch.most_mb)"
    host.acts["/endless"] = endless(host)
    config = FetchConfig(private=("127.0.0.1/32",), most_mb=24)
    tracemalloc.start()
    try:
        error = refused(host, "/endless", tmp_path, config)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert str(error).endswith("more than 24 MiB (raw_videos.fetch.most_mb)") and not error.passes
    assert list(tmp_path.iterdir()) == []


def test_who_says_nothing_is_left(host: Host, tmp_path: Path) -> None:
    host.acts["/hang"] = hang(host)
    began = time.monotonic()
    error = refused(host, "/hang", tmp_path)
    assert str(error) == "says nothing for 0.3 s (raw_videos.fetch.silence) (4 times)"
    assert error.passes and time.monotonic() - began < 4


@pytest.mark.parametrize("where", ["status", "header", "body"])
def test_who_trickles_is_left(host: Host, tmp_path: Path, where: str) -> None:
    begun = {"status": b"", "header": b"HTTP/1.0 200 OK\r\n", "body": b"HTTP/1.0 200 OK\r\n\r\n"}
    more = {"status": b"H", "header": b"X-A: b\r\n", "body": b"b"}

    def act(request: object) -> None:
        request.wfile.write(begun[where])  # type: ignore[attr-defined]
        hang(host, trickle=more[where])(request)  # type: ignore[arg-type]

    host.acts["/slow"] = act
    began = time.monotonic()
    error = refused(host, "/slow", tmp_path, BRIEF)
    assert "takes more than 0.5 s (raw_videos.fetch.seconds)" in str(error) and error.passes
    assert time.monotonic() - began < 2


def test_a_name_that_is_looked_up_for_too_long_leaves_no_time_to_trickle(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def late(*values: object, **named: object) -> object:
        time.sleep(0.7)
        return real(*values, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", late)
    host.acts["/late"] = hang(host, trickle=b"H")
    began = time.monotonic()
    assert "takes more than 0.5 s" in str(refused(host, "/late", tmp_path, BRIEF))
    assert time.monotonic() - began < 2


def test_a_length_of_more_digits_than_any_is_no_promise(host: Host, tmp_path: Path) -> None:
    def act(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "9" * 5000)  # int() refuses so many
        request.end_headers()
        request.wfile.write(DATA)

    host.acts["/length"] = act
    assert fetched(host, "/length", tmp_path) == DATA


def test_redirects_are_followed_but_not_into_private_networks(host: Host, tmp_path: Path) -> None:
    host.acts["/a"], host.acts["/to a"] = file(DATA), status(302, "/a")
    host.acts["/from"] = status(301, "/a")
    assert fetched(host, "/from", tmp_path) == DATA
    with serving("127.0.0.2") as inner:
        inner.acts["/secret"] = file(b"secret")
        for code in (301, 302, 303, 307, 308):
            host.acts["/lead"] = status(code, f"{inner.at}/secret")
            error = refused(host, "/lead", tmp_path / "x")
            assert str(error) == (
                "is redirected to what leads to 127.0.0.2, which is private "
                "(raw_videos.fetch.private)"
            )
        host.acts["/file"] = status(302, "file:///etc/passwd")
        assert "is redirected to what is of file:" in str(refused(host, "/file", tmp_path))
        host.acts["/odd"] = status(302, "http://[x")
        assert str(refused(host, "/odd", tmp_path)) == "is redirected to what is no address"
        host.acts["/round"] = status(302, "/round")
        assert str(refused(host, "/round", tmp_path)) == "is redirected more than 5 times"
        assert inner.asked == {}
        wide = FetchConfig(private=("127.0.0.0/8",))
        assert fetched(host, "/lead", tmp_path, wide) == b"secret"


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_judged(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host looks up a name once; what another look would say does not matter."""
    port, looks = host.server.server_port, []
    host.acts["/a"] = file(DATA)
    real = socket.getaddrinfo

    def rebinding(name: str, *values: object, **named: object) -> object:
        if name != "rebinding.example":
            return real(name, *values, **named)
        looks.append(name)
        to = "127.0.0.1" if len(looks) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (to, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    address = f"http://rebinding.example:{port}/a"
    got = download(address, tmp_path / "part", QUICK, threading.Event())
    assert got.size == len(DATA) and len(looks) == 1
    with pytest.raises(DownloadError, match=r"^leads to 127.0.0.2, which is private"):
        download(address, tmp_path / "part", QUICK, threading.Event())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "100.64.0.1",
        "::1", "0.0.0.0", "fe80::1", "fd00::1", "224.0.0.1", "240.0.0.1", "::ffff:127.0.0.1",
        "ff02::1", "fec0::1", "64:ff9b::a00:1", "2002:7f00:1::", "255.255.255.255",
    ],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_network_that_is_allowed_may_be_written_in_another_way() -> None:
    assert within(ipaddress.ip_address("::ffff:10.0.0.7"), ["10.0.0.0/8"])
    assert not within(ipaddress.ip_address("::ffff:11.0.0.7"), ["10.0.0.0/8", "fd00::/8"])
    with pytest.raises(SettingError, match=r"private: .*; give a network such as 10\.0\.0\.0/8"):
        FetchConfig(private=("10.0.0.1/8",))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ftp://example.org/a", "is of ftp:; give one of http or https"),
        ("file:///etc/passwd", "is of file:; give one of http or https"),
        ("example.org/a.mp4", "is no whole address; give one of http or https"),
        ("http:///a", "is of http:; give one of http or https"),
        ("http://[::1/a", "is no address; give one of http or https"),
        ("http://me:secret@example.org/a", "has a user name in it; give an address without"),
    ],
)
def test_what_is_no_address_is_one_line(tmp_path: Path, address: str, told: str) -> None:
    with pytest.raises(DownloadError) as error:
        download(address, tmp_path / "part", QUICK, threading.Event())
    assert str(error.value) == told and not error.value.passes


def test_nobody_at_the_door_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"^cannot be connected to \(4 times\)$"):
        download(f"http://127.0.0.1:{port}/a", tmp_path / "part", QUICK, threading.Event())


def test_a_query_may_be_a_secret(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.acts["/x"] = status(403)
    assert "token" not in str(refused(host, "/x?token=secret", tmp_path))

    def act(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 403 Forbidden\r\nno header\r\n\r\n")

    host.acts["/y"] = act
    refused(host, "/y?token=secret", tmp_path)
    assert "secret" not in caplog.text


def test_what_is_pressed_though_nobody_asked_is_refused(host: Host, tmp_path: Path) -> None:
    def act(request: object) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\nx")  # type: ignore[attr-defined]

    host.acts["/gzip"] = act
    told = "comes as 'gzip', which was not asked for"
    assert str(refused(host, "/gzip", tmp_path)) == told


def test_stopping_ends_it_within_a_moment(host: Host, tmp_path: Path) -> None:
    host.acts["/500"] = status(500)
    stop, slow = threading.Event(), FetchConfig(private=("127.0.0.1/32",), pause=30.0)
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(DownloadError):
        download(f"{host.at}/500", tmp_path / "part", slow, stop)
    assert time.monotonic() - began < 3


def test_a_disk_that_is_full_is_no_fault_of_the_host(host: Host, tmp_path: Path) -> None:
    host.acts["/a"] = file(DATA)
    (tmp_path / "part").symlink_to("/dev/full")
    with pytest.raises(PlaceError, match="No space left on device; make room there, or set exec"):
        fetched(host, "/a", tmp_path)
    assert host.asked["/a"] >= 1


def test_whether_it_is_still_there(host: Host) -> None:
    host.acts |= {"/a": file(DATA), "/b": status(410), "/c": status(500), "/d": status(301, "/b")}
    assert gone(f"{host.at}/a", QUICK) is None
    assert gone(f"{host.at}/b", QUICK) == "answers HTTP 410 (Gone)"
    assert gone(f"{host.at}/d", QUICK) == "answers HTTP 410 (Gone)"
    with pytest.raises(DownloadError, match="answers HTTP 500"):
        gone(f"{host.at}/c", QUICK)


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=archive",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with serving() as host:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        host.server.socket = context.wrap_socket(host.server.socket, server_side=True)
        host.at, host.acts["/a"] = host.at.replace("http:", "https:"), file(DATA)
        error = refused(host, "/a", tmp_path)
        assert str(error) == "has no valid certificate (self-signed certificate)"
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert fetched(host, "/a", tmp_path) == DATA
        monkeypatch.setattr(answers, "looked_up", lambda *_: [ipaddress.ip_address("127.0.0.1")])
        host.at = host.at.replace("127.0.0.1", "other.example")
        assert "has no valid certificate (Hostname mismatch" in str(refused(host, "/a", tmp_path))
