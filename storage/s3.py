"""S3: a bucket and prefix as a place. The only module that imports boto3."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
)

from storage.places import PlaceError, UnreachableError, aside_of, check_key

_BEYOND = ("416", "InvalidRange")
_MISSING = ("404", "NoSuchKey", "NotFound")
_BUSY = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "500", "503"}
_TAKEN = ("412", "PreconditionFailed")
# S3 answers 409 while another conditional put of the same key is under way: ask again.
_UNDER_WAY = ("409", "ConditionalRequestConflict")
_TRIES = 5

# Whether a bucket is there at all is asked with little patience, and only twice: a person waits.
_ASK = Config(
    connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 2, "mode": "standard"}
)
_WORK = Config(
    connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 4, "mode": "standard"}
)


class ChangedError(Exception):
    """An object that was replaced since it was listed."""


class S3Place:
    """`s3://bucket/prefix`. Endpoint and credentials come from boto3's own environment.

    Raises:
        PlaceError: no such bucket, no access, or no answer (within some ten seconds).
    """

    def __init__(self, location: str) -> None:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self.location = location.rstrip("/")
        try:
            # A session of its own: boto3's default one keeps the first credentials it has seen.
            session = boto3.session.Session()
            session.client("s3", config=_ASK).head_bucket(Bucket=bucket)
            self.client: Any = session.client("s3", config=_WORK)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise PlaceError(
                f"store {self.location}: the bucket does not answer ({_reason(error)}); check its "
                "name, the credentials and AWS_ENDPOINT_URL"
            ) from None

    def read(self, key: str, mark: str | None = None) -> bytes:
        """The bytes of an object; KeyError when there is no such object.

        Raises ChangedError when it no longer has the ETag `mark`, one of `marks`.
        """
        with self._speaking_of(key):
            return self._get(key, mark)

    def _get(self, key: str, mark: str | None, **request: str) -> bytes:
        if mark is not None:
            request["IfMatch"] = f'"{mark}"'
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key), **request)
        except ClientError as error:
            if _code(error) not in _TAKEN:
                raise
            raise ChangedError(f"{self.location}: {key} is no longer {mark}") from None
        return bytes(answer["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        """Put an object, replacing what was there; S3 shows it complete or not at all."""
        with self._speaking_of(key):
            self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object unless its key is taken: a conditional put (If-None-Match: *)."""
        request = {"Bucket": self.bucket, "Key": self._name(key), "Body": data, "IfNoneMatch": "*"}
        with self._speaking_of(key):
            for attempt in range(_TRIES):
                try:
                    self.client.put_object(**request)
                    return True
                except ClientError as error:
                    if _code(error) in _TAKEN:
                        return False
                    if _code(error) not in _UNDER_WAY or attempt == _TRIES - 1:
                        raise
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def upload(self, key: str, source: Path) -> None:
        """Upload a local file, in parts when it is large; it shows when all parts are there."""
        with self._speaking_of(key):
            self.client.upload_file(str(source), self.bucket, self._name(key))

    def download(self, key: str, target: Path) -> None:
        """Download an object, renamed to its target when complete; KeyError when there is none."""
        with self._speaking_of(key), aside_of(target) as aside:
            self.client.download_file(self.bucket, self._name(key), str(aside))
            aside.replace(target)

    def span(self, key: str, offset: int, size: int, mark: str | None = None) -> bytes:
        """At most `size` bytes at `offset`, fewer at the object's end; KeyError without one.

        Raises ChangedError as `read` does.
        """
        with self._speaking_of(key):
            try:
                return self._get(key, mark, Range=f"bytes={offset}-{offset + size - 1}")
            except ClientError as error:
                if _code(error) in _BEYOND:
                    return b""
                raise

    def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket, without moving its bytes through this machine.

        Raises KeyError when there is no such object.
        """
        held = {"Bucket": self.bucket, "Key": self._name(source)}
        with self._speaking_of(source):
            self.client.copy(held, self.bucket, self._name(target))

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            with self._speaking_of(key):
                self.client.head_object(Bucket=self.bucket, Key=self._name(key))
        except KeyError:
            return False
        return True

    def size(self, key: str) -> int:
        """Bytes of an object; KeyError when there is none."""
        with self._speaking_of(key):
            answer = self.client.head_object(Bucket=self.bucket, Key=self._name(key))
            return int(answer["ContentLength"])

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys of all objects that start with a prefix, sorted."""
        yield from (key for key, _ in self._listed(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Key -> bytes of all objects that start with a prefix."""
        return {key: int(entry["Size"]) for key, entry in self._listed(prefix)}

    def marks(self) -> dict[str, str]:
        """Key -> ETag, which changes with the content, of all objects of this place."""
        return {key: entry["ETag"].strip('"') for key, entry in self._listed("")}

    def _listed(self, prefix: str) -> Iterator[tuple[str, Any]]:
        skip = len(self.prefix) + 1 if self.prefix else 0
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._name(prefix)
        )
        with self._speaking_of(prefix):
            for page in pages:
                yield from ((entry["Key"][skip:], entry) for entry in page.get("Contents", ()))

    def remove(self, key: str) -> None:
        """Delete an object; nothing happens when there is none."""
        with self._speaking_of(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def _name(self, key: str) -> str:
        check_key(self.location, key)
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _speaking_of(self, key: str) -> Iterator[None]:
        """Turn what boto3 raises into KeyError (no such key) or PlaceError (all else)."""
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            if _code(error) in _MISSING:
                raise KeyError(key) from None
            kind = UnreachableError if _may_pass(error) else PlaceError
            raise kind(
                f"store {self.location}: {key}: {_reason(error)}; check the connection, the "
                "credentials and their rights, then run again"
            ) from None


@functools.lru_cache(maxsize=16)
def connected(location: str) -> S3Place:
    """One connection of this process: opening one costs as much as reading many objects."""
    return S3Place(location)


def _may_pass(error: Exception) -> bool:
    """Whether it was the way to the bucket, or its load, and not what was asked of it."""
    return isinstance(error, ConnectionError | HTTPClientError) or _code(error) in _BUSY


def _code(error: Exception) -> str:
    response = error.response if isinstance(error, ClientError) else {}
    return str(response.get("Error", {}).get("Code", ""))


def _reason(error: Exception) -> str:
    # The code or kind alone: a botocore message may carry a signed address.
    return _code(error) or type(error).__name__
