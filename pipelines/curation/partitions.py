"""Partitions of the curation: one a source, or hash buckets of a large one."""

from __future__ import annotations

from pipelines.curation.sources import POOL
from pipelines.node import Partitions, Profile


def partitions_of(*sources: str) -> Partitions:
    """Partition keys of some sources: the source, or its hash buckets `source-00`, `source-01`…

    A source that only the generator has is none of a profile that names it no place.
    """

    def keys(profile: Profile) -> tuple[str, ...]:
        found: list[str] = []
        for source in (name for name in sources if name in profile.raw_videos.sources):
            buckets = profile.raw_videos.sources[source].buckets
            width = max(2, len(str(buckets - 1)))
            found += (
                [source]
                if buckets == 1 and source != POOL
                else [f"{source}-{bucket:0{width}d}" for bucket in range(buckets)]
            )
        return tuple(found)

    return keys
