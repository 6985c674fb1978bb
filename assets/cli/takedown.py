"""Who saw one video, and taking it down: what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TextIO

from assets.cli.audit import tell
from assets.deployment import Deployment
from pipelines.graph import key_name
from pipelines.lineage import Unread, find_sources
from pipelines.node import Graph
from pipelines.takedown import ban, concerned, holdings, record
from storage.artifacts import ArtifactStore
from storage.keys import SHOWN


def who_saw(graph: Graph, store: ArtifactStore, video: str, out: TextIO) -> None:
    """Print which artifacts a video or robot recording is in, and how.

    Raises ArtifactError when no artifact lists such a file.
    """
    unread: Unread = []
    for source in find_sources(store, video, unread):
        print(f"{source.path}  sha256 {source.sha256}  listed in {source.listed.name}", file=out)
    for held in holdings(graph, store, video, []):
        print(
            f"  {held.artifact.name:<30} content {held.artifact.content[:12]}  {held.how}", file=out
        )
    tell(unread, out)


def take_down(deployed: Deployment, video: str, reason: str, out: TextIO) -> None:
    """Note that a file must never be used again, and print what has to be made again.

    Raises TakedownError or ArtifactError when the name does not say which file, or the list of the
    deployment cannot be used.
    """
    store, listed_at = deployed.open_store(), deployed.profile.execution.takedowns
    banned = ban(store, listed_at, video, reason, time.strftime("%Y-%m-%d", time.gmtime()))
    print(f"taken down: sha256 {banned.sha256}, {banned.date}: {banned.reason}", file=out)
    print(f"noted in {listed_at}", file=out)
    for source, path in banned.places:
        print(f"  {source}: {path}", file=out)
    stale = concerned(deployed.graph, deployed.profile, store, banned)
    held = (
        {h.artifact.key: h.how for h in holdings(deployed.graph, store, banned.sha256)}
        if stale
        else {}
    )
    if keyid := record(store, banned, stale, held):
        print(f"signed and logged with key {keyid[:SHOWN]}", file=out)
    if not stale:
        print("nothing that this deployment shows was made with it", file=out)
        return
    inside = {key: held[m.key] for key, m in stale.items() if m.key in held}
    print(f"\nto be made again, for it is in them ({len(inside)}):", file=out)
    for (asset, partition), how in inside.items():
        print(f"  {key_name((asset, partition)):<30}  {how}", file=out)
    others = [key for key in stale if key not in inside]
    if others:
        print(f"to be looked at again, for they are made from these ({len(others)}):", file=out)
        print(f"  {', '.join(_by_asset(others))}", file=out)
    print(
        "\n`vjepa2 run` makes them. What was made before keeps its bytes in the store, under its "
        "own recipe, until it is removed there.",
        file=out,
    )


def _by_asset(keys: Iterable[tuple[str, str | None]]) -> list[str]:
    """`scenes (yt1b-00, yt1b-01)`: partitions gathered under their asset."""
    gathered: dict[str, list[str]] = {}
    for asset, partition in keys:
        gathered.setdefault(asset, []).extend([partition] if partition else [])
    return [f"{asset} ({', '.join(p)})" if p else asset for asset, p in gathered.items()]
