"""Pictures of the group `robot`: episodes as films."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from assets.previews import figures
from assets.previews.curation import SHEET, counted, evenly, reasons
from pipelines.robot.episode_shards import load_episode
from pipelines.stage import Inputs
from storage.artifacts import Artifact

FILM = 6  # frames of a film strip


def droid_episodes(episodes: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Outcomes and lengths of the episodes."""
    rows = episodes.table("episodes.parquet")
    groups = {
        "outcome": {
            "success": float(sum(bool(row["success"]) for row in rows)),
            "failure": float(sum(not row["success"] for row in rows)),
        },
        "control steps": _histogram([row["rows"] for row in rows]),
        "set aside": counted(reasons(episodes)),
    }
    title = f"{episodes.manifest.name}: {len(rows)} episodes"
    return {"episodes": figures.table_bars({k: v for k, v in groups.items() if v}, title)}


def episode_shards(shards: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """One episode as a film with its states, and first frames of others."""
    rows = shards.table("index.parquet")
    if not rows:
        return {}  # everything was set aside: the check says so
    row = max(rows, key=lambda r: (bool(r["success"]), r["frames"], r["key"]))
    frames, states = load_episode(shards, row)
    chosen = evenly(range(len(frames)), FILM)
    tracks = {name: 100 * states[:, i] for i, name in enumerate("xyz")} | {
        "gripper closed": 100 * states[:, 6]
    }
    outcome = "success" if row["success"] else "failure"
    film = figures.film_strip(
        [frames[i] for i in chosen],
        [f"{i / row['fps']:.1f} s" for i in chosen],
        tracks,
        (f"frame ({row['fps']:g} a second)", "cm; gripper in %"),
        f"{shards.manifest.name}: one episode of {len(rows)} ({outcome})",
    )
    first = [load_episode(shards, r)[0][0] for r in evenly(rows, SHEET)]
    captions = [f"{r['frames']} frames" for r in evenly(rows, SHEET)]
    title = f"{shards.manifest.name}: first frames of {len(first)} of {len(rows)} episodes"
    return {"film strip": film, "contact sheet": figures.contact_sheet(first, captions, title)}


def _histogram(values: list[int]) -> dict[str, float]:
    """Counts in at most six bins: {"20-40": 3, …}; one bar where all are equal."""
    if len(set(values)) <= 6:
        return {str(value): float(values.count(value)) for value in sorted(set(values))}
    counts, edges = np.histogram(values, bins=6)
    names = [f"{low:.0f}-{high:.0f}" for low, high in pairwise(edges)]
    return dict(zip(names, counts.astype(float).tolist(), strict=True))
