"""Who wrote a manifest can be proven, on disk and on S3.

- What is sealed is signed before it is there and logged after it; its bytes are those of a store
  that signs nothing, and other people's tools read the statement.
- A manifest that was forged, by whoever may write to the store, is refused; one that a stranger
  signed, or nobody, is told, refused or accepted, as the user chose.
- The log loses no entry of processes that write at once, and names what was changed in it.
- A crash, a full disk and a key that others may read are each one line, and nothing is lost.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope as PeerEnvelope
from securesystemslib.signer import SSlibKey

from storage import merkle_log
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.audit import verify_log
from storage.digests import digest_bytes, digest_json
from storage.keys import Keyring, SigningError, public_key
from storage.merkle_log import Entry, MerkleLog
from storage.places import open_place
from storage.signatures import Signatures, signature_key
from tests.storage.test_artifacts import ROOT, answer, location, resealed

__all__ = ["location"]


def opened(location: str, folder: Path, who: str = "me", **more: Any) -> ArtifactStore:
    keyring = Keyring(folder / who / "keys")
    return ArtifactStore(location, folder / who / "cache", keyring=keyring, **more)


@pytest.fixture
def store(location: str, tmp_path: Path) -> ArtifactStore:
    return opened(location, tmp_path)


def signatures_of(store: ArtifactStore) -> Signatures:
    assert store.signatures is not None
    return store.signatures


def kind(store: ArtifactStore, manifest: Manifest) -> str:
    return signatures_of(store).judge(manifest).kind


def problems(store: ArtifactStore) -> list[str]:
    told = [problem for _, problem in store.verify() if problem]
    return told + list(verify_log(signatures_of(store)).problems)


def test_what_is_sealed_is_signed_and_logged(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = answer(store)
    assert kind(store, manifest) == "own"
    assert problems(store) == []
    assert verify_log(signatures_of(store)).head.size == 1
    private = tmp_path / "me" / "keys" / "signing.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    secret = private.read_bytes().splitlines()[1]
    kept = [store.place.read(key) for key in store.place.keys("")]
    assert kept and not [data for data in kept if secret in data]
    assert secret.decode() not in repr(Keyring(private.parent).own())


def test_bytes_do_not_change_with_who_signs_them(tmp_path: Path) -> None:
    plain = ArtifactStore(str(tmp_path / "plain"))
    before = answer(plain)
    after = answer(opened(str(tmp_path / "signed"), tmp_path))
    assert after.to_json() == before.to_json()
    other = answer(opened(str(tmp_path / "other"), tmp_path, "somebody"))
    assert other.to_json() == before.to_json()


def test_others_tools_read_and_check_the_statement(store: ArtifactStore) -> None:
    raw = answer(store, {"f": b"raw"}, asset="raw")
    top = answer(store, {"f": b"top", "g/h": b"more"}, asset="top", raw=raw)
    signatures = signatures_of(store)
    data = json.loads(store.place.read(signature_key(top, signatures.own)))
    peer = PeerEnvelope.from_dict(data)
    pem = store.place.read(f"keys/{signatures.own}.pem").decode()
    scheme = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem}}
    assert list(peer.verify([SSlibKey(signatures.own, **scheme)], 1)) == [signatures.own]
    statement = json.loads(peer.payload)
    subjects = [ResourceDescriptor(s["name"], digest=s["digest"]).pb for s in statement["subject"]]
    Statement(subjects, statement["predicateType"], statement["predicate"]).validate()
    digests = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert digests["g/h"] == digest_bytes(b"more")
    assert digests[top.key] == digest_bytes(store.place.read(top.key))
    [made_of] = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert made_of["digest"] == {"vjepa2content": raw.content}


def test_a_forged_manifest_is_refused(store: ArtifactStore) -> None:
    raw, other = answer(store, {"f": b"raw"}, asset="raw"), answer(store, {"f": b"o"}, seed=1)
    top = answer(store, {"f": b"top"}, asset="top", raw=raw)
    # Everything fits but who wrote it: another recipe of the same inputs, sealed again.
    forged = dataclasses.replace(top, record={"metrics": {"n": 2}})
    store.place.write(top.key, forged.to_json())
    assert kind(store, forged) == "forged"
    doubt = store.doubt(forged)
    assert doubt.refused and "is not the one that was signed with key" in doubt.told
    told = problems(store)
    assert len(told) == 2 and f"manifest {top.key} is not the one that was signed" in told[1]
    # Without its signature it is nobody's, and the log knows better.
    store.place.remove(signature_key(top, signatures_of(store).own))
    assert kind(store, forged) == "unsigned"
    assert problems(store) == told[1:]
    assert kind(store, other) == "own"


def test_a_signature_that_was_copied_or_broken_vouches_for_nothing(store: ArtifactStore) -> None:
    one, two = answer(store, {"f": b"1"}), answer(store, {"f": b"2"}, seed=1)
    own = signatures_of(store).own
    store.place.write(signature_key(two, own), store.place.read(signature_key(one, own)))
    assert (kind(store, one), kind(store, two)) == ("own", "forged")
    store.place.write(signature_key(one, own), b"{}")
    assert kind(store, one) == "forged"


@pytest.mark.parametrize(("unsigned", "told", "refused"), [
    ("accept", False, False), ("tell", True, False), ("refuse", True, True)
])  # fmt: skip
def test_a_strangers_signature_is_what_the_user_says(
    tmp_path: Path, unsigned: str, told: bool, refused: bool
) -> None:
    location = str(tmp_path / "store")
    theirs = opened(location, tmp_path, "them")
    manifest = answer(theirs)
    nobodys = answer(ArtifactStore(location, tmp_path / "c"), {"f": b"n"}, seed=1)
    mine = opened(location, tmp_path, unsigned=unsigned)
    assert (kind(mine, manifest), kind(mine, nobodys)) == ("foreign", "unsigned")
    for found in (manifest, nobodys):
        doubt = mine.doubt(found)
        assert (bool(doubt.told), doubt.refused) == (told, refused)
    keyid = signatures_of(theirs).own
    mine_ring = Keyring(tmp_path / "me" / "keys")
    mine_ring.trust(public_key(theirs.place.read(f"keys/{keyid}.pem"), "theirs"))
    again = opened(location, tmp_path, unsigned=unsigned)
    assert kind(again, manifest) == "trusted" and again.doubt(manifest).told == ""
    assert mine_ring.distrust(keyid[:8]) == [keyid]
    assert kind(opened(location, tmp_path), manifest) == "foreign"


def test_what_a_refusing_deployment_makes_again_takes_the_strangers_place(
    location: str, tmp_path: Path
) -> None:
    manifest = answer(opened(location, tmp_path, "them"))
    mine = opened(location, tmp_path, unsigned="refuse")
    with mine.work(manifest.recipe) as work:
        (work / "payload" / "shards").mkdir(parents=True)
        for entry in manifest.files:
            (work / "payload" / entry.path).write_bytes(
                mine.place.read(f"objects/{manifest.content}/{entry.path}")
            )
        draft = {name: getattr(manifest, name) for name in (
            "asset", "partition", "recipe_inputs", "recipe", "parents")}  # fmt: skip
        made = mine.seal(work, draft | {"record": {"metrics": {"n": 1}, "mine": True}})
    assert kind(mine, mine.manifest(made.recipe, made.content)) == "own"
    assert made.record["mine"] and made.content == manifest.content
    assert mine.place.exists(f"damaged/{manifest.key}")


def test_the_first_record_stands_and_the_second_signs_nothing(
    location: str, tmp_path: Path
) -> None:
    first = answer(opened(location, tmp_path, "them"))
    mine = opened(location, tmp_path)
    with mine.work(first.recipe) as work:
        for entry in first.files:
            path = work / "payload" / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mine.place.read(f"objects/{first.content}/{entry.path}"))
        draft = {name: getattr(first, name) for name in (
            "asset", "partition", "recipe_inputs", "recipe", "parents")}  # fmt: skip
        assert mine.seal(work, draft | {"record": {"other": 1}}) == first
    assert kind(mine, first) == "foreign"
    assert len(list(mine.place.keys("signatures/"))) == 1
    assert verify_log(signatures_of(mine)).head.size == 1


# ------------------------------------------------------------------ the log


def _append(location: str, who: int, number: int) -> None:
    book = MerkleLog(open_place(location))
    for n in range(number):
        book.append(Entry("manifest", f"{who}-{n}", "0" * 64, "1" * 64, "2" * 64))


def test_processes_that_append_at_once_lose_nothing(location: str) -> None:
    together = multiprocessing.get_context("fork")
    writers = [together.Process(target=_append, args=(location, who, 12)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    entries = MerkleLog(open_place(location)).entries()
    names = [merkle_log.parse(data, n).name for n, data in enumerate(entries)]
    assert sorted(names) == sorted(f"{who}-{n}" for who in range(3) for n in range(12))
    for who in range(3):
        own = [int(name.split("-")[1]) for name in names if name.startswith(f"{who}-")]
        assert own == list(range(12)), "each process's entries are in its order"


def test_a_root_that_was_kept_proves_that_nothing_was_taken_back(store: ArtifactStore) -> None:
    first = answer(store, {"f": b"1"})
    book = signatures_of(store).merkle_log
    kept = merkle_log.head(book.entries())
    assert kept.size == 1
    answer(store, {"f": b"2"}, seed=1)
    answer(store, {"f": b"3"}, seed=2)
    assert merkle_log.proven(book.entries(), kept.root) == 1
    assert merkle_log.proven(book.entries(), merkle_log.head(book.entries()).root) == 3
    line = r"^the log does not extend the one of root [0-9a-f]{16}…: an entry before it was changed"
    changed = json.loads(store.place.read("log/000000000000.json")) | {"digest": "0" * 64}
    store.place.write("log/000000000000.json", json.dumps(changed).encode())
    with pytest.raises(ArtifactError, match=line):
        merkle_log.proven(book.entries(), kept.root)
    assert problems(store) == ["log entry 0 was written by another hand"]
    store.place.remove("log/000000000001.json")
    with pytest.raises(ArtifactError, match=r"lacks entry 1: somebody removed it"):
        book.entries()
    assert first.key in {m.key for m in store.manifests()}


def test_a_manifest_that_is_gone_since_it_was_logged_is_named(store: ArtifactStore) -> None:
    manifest = answer(store)
    store.place.remove(manifest.key)
    assert verify_log(signatures_of(store)).gone == (manifest.key,)


def test_whoever_may_write_adds_nothing_that_is_believed(store: ArtifactStore) -> None:
    manifest = answer(store)
    signatures_of(store).merkle_log.append(
        Entry("manifest", manifest.key, "0" * 64, "1" * 64, "f" * 64)
    )
    assert problems(store) == []


def test_an_entry_with_our_keys_id_that_we_did_not_sign_stands_for_nothing(
    store: ArtifactStore,
) -> None:
    """Whoever may write to the store replaces a manifest, its signature and its line in the log."""
    manifest = answer(store)
    own = signatures_of(store).own
    forged = dataclasses.replace(manifest, record={"metrics": {"n": 2}})
    store.place.write(manifest.key, forged.to_json())
    store.place.remove(signature_key(manifest, own))
    told = f"manifest {manifest.key} is not the one that was signed and logged"
    assert told in problems(store)
    signatures_of(store).merkle_log.append(
        Entry("manifest", manifest.key, digest_bytes(forged.to_json()), "1" * 64, own)
    )
    assert told in problems(store)


# ------------------------------------------------------------------ what goes wrong


def test_a_crash_after_the_manifest_is_signed_and_logged_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(str(tmp_path / "store"), tmp_path)
    for lost in ("sign", "log"):
        seed = len(lost)

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Signatures, lost, fail)
        with pytest.raises(KeyboardInterrupt):
            answer(store, seed=seed)
        monkeypatch.undo()
        recipe = digest_json({"stage": "toy", "config": {"seed": seed}, "inputs": {}})
        with store.work(recipe) as work:
            manifest = store.resume_sealing(work)
        assert manifest is not None and kind(store, manifest) == "own"
    assert verify_log(signatures_of(store)).head.size == 2
    assert problems(store) == []


_FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from storage.artifacts import ArtifactError
from tests.storage.test_signatures import answer, opened
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = opened(sys.argv[1] + "/store", Path(sys.argv[1]))
answer(store, seed=7)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, -1))
try:
    answer(store)
except ArtifactError as error:
    print(error)
except OSError as error:
    print("raw", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
manifest = answer(store, seed=0)
print(store.signatures.judge(manifest).kind, [p for _, p in store.verify() if p])
"""


def test_a_disk_that_fills_while_sealing_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL.format(root=str(ROOT)), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert "File too large; make room for it, then run again" in lines[0] or (
        "File too large; check the disk" in lines[0]
    )
    assert lines[1] == "own []"


def test_a_key_that_others_may_read_or_that_is_none_is_one_line(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    assert ring.own() is None and ring.trusted() == {}
    own = ring.own_or_new()
    assert ring.own_or_new().public == own.public
    (tmp_path / "signing.pem").chmod(0o644)
    with pytest.raises(SigningError, match=r"may be used by others \(mode 644\): chmod 600 it"):
        ring.own()
    (tmp_path / "signing.pem").chmod(0o600)
    (tmp_path / "signing.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(SigningError, match="is no private key of the curve P-256"):
        ring.own()
    with pytest.raises(SigningError, match=r"^x is no public key of the curve P-256"):
        public_key(b"ssh-ed25519 AAAA", "x")


def test_resealing_by_hand_is_found_where_parents_alone_were_checked(store: ArtifactStore) -> None:
    raw = answer(store, {"f": b"raw"}, asset="raw")
    top = answer(store, {"f": b"top"}, asset="top", raw=raw)
    asked = {**top.recipe_inputs, "inputs": {}}
    cut = dataclasses.replace(top, recipe_inputs=asked, recipe=digest_json(asked), parents={})
    store.place.remove(top.key)
    store.place.write(cut.key, resealed(cut))
    assert store.manifest(cut.recipe, cut.content).parents == {}, "every digest fits"
    assert kind(store, cut) == "unsigned"
    assert verify_log(signatures_of(store)).gone == (top.key,)
