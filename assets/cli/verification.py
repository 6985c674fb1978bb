"""Whether a store is as it was sealed, signed and logged; and whose signatures are believed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from assets.deployment import Deployment
from storage.artifacts import ArtifactStore
from storage.audit import LogReport, verify_log
from storage.keys import SHOWN, Keyring, PublicKey, SigningError, public_key
from storage.merkle_log import proven
from storage.signatures import Signatures, Verdict
from storage.takedowns import takedowns

TOLD = 5  # of many alike, those that are named


def verify(deployed: Deployment, root: str | None, sign: bool, out: TextIO) -> int:
    """Read every byte again, judge every signature, follow the log, and print each problem.

    Returns how many there are. With `root`, today's log is proven to extend the one of that root;
    with `sign`, manifests that nobody signed and whose every byte fits are signed.
    """
    if root is not None and not re.fullmatch("[0-9a-f]{64}", root):
        raise SigningError(f"--root {root}: a root is 64 digits, as `vjepa2 verify` prints it")
    store = deployed.open_store(read_only=not sign)
    tally: Counter[Verdict] = Counter()
    bad = _payloads(store, sign, tally, out)
    assert store.signatures is not None
    for line in _signers(tally):
        print(line, file=out)
    return bad + _log(store.signatures, deployed, root, out)


def _payloads(store: ArtifactStore, sign: bool, tally: Counter[Verdict], out: TextIO) -> int:
    seen = files = size = bad = 0
    unsigned = []
    for manifest, problem in store.verify(tally):
        seen += 1
        if manifest:
            files, size = files + len(manifest.files), size + manifest.size
        if problem:
            bad += 1
            print(f"{manifest.name if manifest else 'store'}: {problem}", file=out)
        elif sign and manifest:
            unsigned.append(manifest)
    verdict = "all as sealed" if not bad else f"{bad} NOT as sealed"
    print(f"{seen} artifacts, {files} files, {size / 1e6:.1f} MB read again: {verdict}", file=out)
    if signatures := store.signatures:
        fresh = [m for m in unsigned if signatures.judge(m).kind == "unsigned"]
        for manifest in fresh:
            signatures.log(manifest, signatures.sign(manifest))
        if sign:
            print(f"signed {len(fresh)} that nobody had signed", file=out)
    return bad


def _signers(tally: Counter[Verdict]) -> Iterator[str]:
    words = {
        "own": "signed with this deployment's key {}",
        "trusted": "signed with key {}, which is trusted here",
        "foreign": "signed with key {}, which is NOT trusted here",
        "unsigned": "signed by nobody (`vjepa2 verify --sign` signs what fits)",
        "forged": "NOT those that were signed with key {}",
    }
    order = list(words)
    for verdict in sorted(tally, key=lambda v: (order.index(v.kind), v.keyid)):
        number = tally[verdict]
        yield f"{number} manifests {words[verdict.kind].format(verdict.keyid[:SHOWN])}"


def _log(signatures: Signatures, deployed: Deployment, root: str | None, out: TextIO) -> int:
    """Print what the log tells; returns how many problems there are."""
    report = verify_log(signatures)
    problems = [*report.problems, *_taken_back(report, deployed)]
    for problem in problems:
        print(problem, file=out)
    for key in report.gone[:TOLD]:
        print(f"gone since it was logged: {key}", file=out)
    if len(report.gone) > TOLD:
        print(f"… and {len(report.gone) - TOLD} more manifests", file=out)
    if root is not None:
        before = proven(signatures.merkle_log.entries(), root)
        added = report.head.size - before
        print(f"the log extends the one of that root: {before} entries, {added} since", file=out)
    print(
        f"log: {report.head.size} entries, root {report.head.root}\n"
        "  (kept elsewhere, `vjepa2 verify --root` proves by it that nothing was taken back)",
        file=out,
    )
    return len(problems)


def _taken_back(report: LogReport, deployed: Deployment) -> Iterator[str]:
    """Takedowns of this deployment that were signed, and that its list no longer has."""
    listed_at = deployed.profile.execution.takedowns
    listed = {line.sha256 for line in takedowns(listed_at)}
    for signed in report.takedowns:
        if signed["deployment"] == deployed.name and signed["sha256"] not in listed:
            yield f"{listed_at} lacks the takedown of {signed['sha256']}, which was signed"


def keys(deployed: Deployment, trust: str | None, distrust: str | None, out: TextIO) -> None:
    """Print the keys that signed something in the store, and which of them are trusted.

    Raises:
        SigningError: no key, or several, answer to a name.
    """
    keyring, store = deployed.keyring, deployed.open_store(read_only=True)
    published = _published(store)
    if trust is not None:
        key = _named(trust, published)
        keyring.trust(key)
        print(f"trusted from now on: {key.keyid}", file=out)
    if distrust is not None:
        gone = keyring.distrust(distrust) if re.fullmatch("[0-9a-f]{4,64}", distrust) else []
        if not gone:
            raise SigningError(f"--distrust {distrust}: no trusted key has an id that begins so")
        print(*(f"trusted no more: {keyid}" for keyid in gone), sep="\n", file=out)
    for line in _listed(keyring, published):
        print(line, file=out)


def _listed(keyring: Keyring, published: list[PublicKey]) -> Iterator[str]:
    own, trusted = keyring.own(), keyring.trusted()
    if own is None:
        yield "this deployment has no key yet: its first run makes one"
    for keyid in sorted({*trusted, *(key.keyid for key in published)}):
        mine = own is not None and keyid == own.public.keyid
        yield f"{'own' if mine else 'trusted' if keyid in trusted else 'foreign':<8} {keyid}"


def _published(store: ArtifactStore) -> list[PublicKey]:
    found = []
    for key in store.place.keys("keys/"):
        if re.fullmatch(r"keys/[0-9a-f]{64}\.pem", key):
            found.append(public_key(store.place.read(key), f"{store.place.location}/{key}"))
    return found


def _named(name: str, published: list[PublicKey]) -> PublicKey:
    """The public key in a file, or that of the store whose id begins so."""
    path = Path(name)
    try:
        if path.is_file():
            return public_key(path.read_bytes(), name)
    except OSError as error:
        raise SigningError(f"--trust {name}: {error.strerror}") from None
    fitting = [key for key in published if re.match("[0-9a-f]{4}", name) and
               key.keyid.startswith(name)]  # fmt: skip
    if len(fitting) != 1:
        many = f"{len(fitting)} keys of the store have" if fitting else "no key of the store has"
        raise SigningError(
            f"--trust {name}: {many} an id that begins so; give a file (PEM) or more digits of one "
            "that `vjepa2 keys` lists"
        )
    return fitting[0]
