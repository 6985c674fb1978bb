"""Names of assets, remembered from one command to the next, so that a mistyped one is told at once.

The graph says what there is, but importing it imports every library of every stage: seconds. What
is remembered counts only while no source file has changed, and only a name that it does not have is
refused by it; whatever else is wrong the graph itself says. This module imports nothing heavy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipelines.provenance import ROOMS, ROOT, default_home
from pipelines.schemas import nearest
from storage.digests import digest_json
from storage.errors import UserError
from storage.places import write_file


class UnknownAssetError(UserError, ValueError):
    """A name that is no asset of the graph, or no partition of that asset."""


def check_known(asset: str, known: Iterable[str]) -> None:
    """Raise UnknownAssetError, with the nearest name, unless an asset is among those known."""
    if asset not in (names := list(known)):
        raise UnknownAssetError(f"{asset}: no such asset{nearest(asset, names)}")


def refuse_unknown(wanted: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """Refuse names (`asset` or `asset/partition`) of no asset, where the assets are remembered."""
    try:
        noted = json.loads(_note(environment).read_bytes())
        known = noted["assets"] if noted["sources"] == _sources() else None
    except (OSError, ValueError, KeyError, TypeError):
        return
    # A graph of one's own may change where nobody looks.
    if known and not environment.get("VJEPA2_GRAPH"):
        for name in wanted:
            check_known(name.partition("/")[0], known)


def remember(assets: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """Note the assets of this project's graph; what cannot be written is not remembered."""
    if not environment.get("VJEPA2_GRAPH"):
        noted = {"sources": _sources(), "assets": list(assets)}
        with suppress(OSError):
            write_file(_note(environment), json.dumps(noted).encode())


def _note(environment: Mapping[str, str]) -> Path:
    home = environment.get("VJEPA2_HOME")
    return (Path(home).expanduser() if home else default_home()) / "cache" / "assets.json"


def _sources() -> str:
    """Digest of path, size and time of every source file of this project."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return digest_json([str(ROOT), *[_seen(path) for path in files]])


def _seen(path: Path) -> list[str | int]:
    state = path.stat()
    return [path.relative_to(ROOT).as_posix(), state.st_size, state.st_mtime_ns]
