"""Movement: what an asset of the curation shows that it did not show before, counted for people.

After one video more or less, the clusters of all other scenes should be the same ones; where they
are not, these numbers say how many scenes went where, and the recipe says what was read anew.
Clusters are compared by the scene that each began as, not by their numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import Artifact

Arrays = tuple[NDArray[Any], NDArray[Any]]


def clusters_moved(before: Artifact, after: Artifact) -> dict[str, int]:
    """Scenes that came, went, or lie in another cluster; clusters that came, went, or changed."""
    names = [a.columns("clusters.parquet", ["first_scene"])["first_scene"] for a in (before, after)]
    came = gone = other = 0
    held = [set(a.files("assignments/")) for a in (before, after)]
    for path in sorted(held[0] | held[1]):
        old, new = (
            _assigned(artifact, path, name) if path in here else (np.empty(0, str),) * 2
            for artifact, name, here in zip((before, after), names, held, strict=True)
        )
        _, at_old, at_new = np.intersect1d(old[0], new[0], True, return_indices=True)
        gone, came = gone + len(old[0]) - len(at_old), came + len(new[0]) - len(at_new)
        other += int((old[1][at_old] != new[1][at_new]).sum())
    told = {"scenes_new": came, "scenes_gone": gone, "scenes_in_another_cluster": other}
    return told | _clusters_changed(before, after)


def scenes_moved(before: Artifact, after: Artifact) -> dict[str, int]:
    """Curated scenes that are drawn anew, no more, or another number of times."""
    columns = ["scene_id", "draws"]
    old, new = (a.columns("scenes.parquet", columns) for a in (before, after))
    _, at_old, at_new = np.intersect1d(old["scene_id"], new["scene_id"], True, return_indices=True)
    return {
        "scenes_new": len(new["draws"]) - len(at_new),
        "scenes_gone": len(old["draws"]) - len(at_old),
        "scenes_drawn_otherwise": int((old["draws"][at_old] != new["draws"][at_new]).sum()),
    }


def _assigned(clustered: Artifact, path: str, names: NDArray[Any]) -> Arrays:
    """Scene ids and the names of their clusters, [n] each."""
    columns = clustered.columns(path, ["scene_id", "cluster"])
    return columns["scene_id"].astype(str), names[columns["cluster"]].astype(str)


def _clusters_changed(before: Artifact, after: Artifact) -> dict[str, int]:
    old, new = (a.columns("clusters.parquet") for a in (before, after))
    names, at_old, at_new = np.intersect1d(
        old["first_scene"], new["first_scene"], True, return_indices=True
    )
    targets = [name for name in new if name.startswith("n_") and name in old]
    voted = np.zeros(len(names), bool)
    for target in targets:
        voted |= old[target][at_old] != new[target][at_new]
    return {
        "clusters_new": len(new["scenes"]) - len(names),
        "clusters_gone": len(old["scenes"]) - len(names),
        "clusters_of_another_size": int((old["scenes"][at_old] != new["scenes"][at_new]).sum()),
        "clusters_with_other_targets": int(voted.sum()),
    }
