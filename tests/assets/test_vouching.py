"""Signatures on the command line: `verify` with its root, `keys`, what `status` and `run` make of
what a stranger wrote, and the signed record of a takedown. Whatever is wrong is one line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter

import pytest

from assets.cli.verification import _signers
from storage.digests import digest_bytes
from storage.envelopes import parse
from storage.signatures import Verdict
from tests.assets.test_cli import ask, refused

__all__ = ["ask"]


def root_of(told: str) -> str:
    return re.findall(r"^log: \d+ entries, root ([0-9a-f]{64})$", told, re.M)[0]


def test_verify_tells_who_signed_and_proves_a_root(ask, house) -> None:
    house.run("sums/a")
    code, out, _ = ask("verify")
    keyid = ask("keys")[1].split()[1]
    assert code == 0
    assert f"2 manifests signed with this deployment's key {keyid[:12]}\n" in out
    kept = root_of(out)
    house.run("sums/b")
    code, out, _ = ask("verify", "--root", kept)
    assert code == 0
    assert "the log extends the one of that root: 2 entries, 2 since" in out
    key = "log/000000000001.json"
    entry = json.loads(house.store.place.read(key)) | {"name": "another"}
    house.store.place.write(key, json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
    code, out, err = ask("verify", "--root", kept)
    assert code == 2 and "the log does not extend the one of root" in err
    assert err.count("\n") == 1
    assert "a root is 64 digits" in refused(ask("verify", "--root", "abc"))


def test_signers_are_told_in_order_however_many_of_a_kind() -> None:
    tally = Counter({Verdict("foreign", "b" * 64): 2, Verdict("foreign", "a" * 64): 1})
    assert [line.split()[0] for line in _signers(tally)] == ["1", "2"]


def forge(house, asset: str, partition: str) -> None:
    """What somebody does who may write to the store: another record, sealed anew."""
    manifest = house.store.ref(asset, partition)
    record = {**manifest.record, "git_commit": "f" * 40}
    house.store.place.write(manifest.key, dataclasses.replace(manifest, record=record).to_json())


def test_a_forged_manifest_is_stale_with_its_reason_and_run_mends_it(ask, house) -> None:
    house.run("sums/a")
    forge(house, "counts", "a")
    out = ask("status")[1]
    assert "stale    counts/a: its manifest is not the one that was signed with key" in out
    code, out, _ = ask("verify")
    assert code == 1 and "counts/a: its manifest is not the one that was signed" in out
    code, out, err = ask("run", "sums/a")
    assert code == 0, err
    assert "fresh    counts/a\n" in ask("status")[1]
    assert ask("verify")[0] == 0


def test_what_a_stranger_signed_is_told_refused_or_trusted(ask, house, monkeypatch) -> None:
    house.run("sums/a")
    monkeypatch.setenv("VJEPA2_HOME", str(house.folder / "another home"))
    foreign = ask("status")[1]
    assert re.search(r"fresh    counts/a: signed with key [0-9a-f]{12}, which is not tr", foreign)
    strict = ("--set", "execution.unsigned=refuse")
    assert re.search(r"stale    counts/a: signed with key", ask("status", *strict)[1])
    assert ask("verify")[0] == 0 and ask("verify", *strict)[0] == 1
    assert "NOT trusted here" in ask("verify")[1]
    told = ask("keys")[1]
    assert told.startswith("this deployment has no key yet")
    [(word, keyid)] = [line.split() for line in told.splitlines()[1:]]
    assert word == "foreign"
    assert f"trusted from now on: {keyid}" in ask("keys", "--trust", keyid[:12])[1]
    assert "fresh    counts/a\n" in ask("status", *strict)[1]
    assert ask("verify", *strict)[0] == 0
    assert f"trusted no more: {keyid}" in ask("keys", "--distrust", keyid[:12])[1]
    code, _, err = ask("run", "sums/a", *strict)
    assert code == 0 and "making it again" in err
    assert "fresh    counts/a\n" in ask("status", *strict)[1]


@pytest.mark.parametrize(("words", "message"), [
    (("--trust", "0123abcd"), "no key of the store has an id that begins so"),
    (("--trust", "{}/store/refs"), "no key of the store has an id"),
    (("--distrust", "0123abcd"), "no trusted key has an id that begins so"),
])  # fmt: skip
def test_a_key_that_there_is_not_is_one_line(ask, house, words, message) -> None:
    house.run("counts/a")
    code, _, err = ask("keys", *(word.format(house.folder) for word in words))
    assert code == 2 and message in err and err.count("\n") == 1


def test_what_nobody_signed_is_told_and_signed_when_asked(ask, house) -> None:
    house.run("sums/a")
    for key in [*house.store.place.keys("signatures/"), *house.store.place.keys("log/")]:
        house.store.place.remove(key)
    assert "fresh    counts/a: nobody signed its manifest\n" in ask("status")[1]
    code, out, _ = ask("verify")
    assert code == 0 and "2 manifests signed by nobody (`vjepa2 verify --sign`" in out
    assert "signed 2 that nobody had signed" in ask("verify", "--sign")[1]
    assert "fresh    counts/a\n" in ask("status")[1]


def test_a_private_key_that_others_may_read_is_one_line(ask, house) -> None:
    house.run("counts/a")
    (house.folder / "home" / "keys" / "signing.pem").chmod(0o640)
    assert "may be used by others (mode 640)" in refused(ask("run", "counts/a"))


def test_a_takedown_is_signed_and_cannot_be_taken_back_unseen(ask, house) -> None:
    house.run("counts/a")
    video = digest_bytes(b"a film")
    code, out, err = ask("takedown", video, "--reason", "withdrawn")
    assert code == 0 and "signed and logged with key" in out, err
    [key] = house.store.place.keys("signatures/takedowns/")
    record = parse(house.store.place.read(key), key).statement
    assert record["subject"] == [{"name": "video", "digest": {"sha256": video}}]
    assert record["predicate"]["reason"] == "withdrawn" and record["predicate"]["remake"] == []
    assert ask("verify")[0] == 0
    [listed] = [key for key in house.store.place.keys("takedowns/") if key.endswith(".json")]
    house.store.place.write(listed, b"[]")
    code, out, _ = ask("verify")
    assert code == 1 and f"lacks the takedown of {video}, which was signed" in out
