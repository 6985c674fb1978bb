"""Partitions of the curation: one a source, or hash buckets of a large one."""

from __future__ import annotations

from pipelines.curation.sources import POOL
from pipelines.node import Partitions, Profile
from storage.digests import digest_bytes


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


def bucket_number(partition: str | None) -> int:
    """The bucket that a partition's name ends with: `yt1b-03` -> 3, `ssv2` -> 0."""
    last = (partition or "").rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def bucket_of(path: str, buckets: int) -> int:
    """Which of `buckets` the file at a path (relative to its source, posix) belongs to."""
    name = path.encode("utf-8", "surrogateescape")  # a name that is not UTF-8 has a bucket, too
    return int(digest_bytes(name)[:16], 16) % buckets


def belongs(item: str, bucket: int, of: int) -> bool:
    """Whether the file at a path, or what annotations call an item, is of a bucket."""
    return bucket_of(item, of) == bucket
