"""S3: a bucket and prefix as a place. The one door to boto3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.places import PlaceError


class S3Place:
    """`s3://bucket/prefix`. Endpoint and credentials come from boto3's own environment.

    Raises:
        PlaceError: no such bucket, no access, or no answer within three tries.
    """

    def __init__(self, location: str) -> None:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self.location = location.rstrip("/")
        settings = Config(
            connect_timeout=5, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"}
        )
        self.client: Any = boto3.client("s3", config=settings)
        try:
            self.client.head_bucket(Bucket=bucket)
        except (BotoCoreError, ClientError) as error:
            raise PlaceError(
                f"store {self.location}: the bucket does not answer ({_reason(error)}); check its "
                "name, the credentials and AWS_ENDPOINT_URL"
            ) from None

    def read(self, key: str) -> bytes:
        """See storage.places.Place."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
        except ClientError as error:
            raise self._translate(error, key) from None
        return bytes(answer["Body"].read())

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on: one sample of a shard, without the shard."""
        span = f"bytes={offset}-{offset + size - 1}"
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key), Range=span)
        except ClientError as error:
            raise self._translate(error, key) from None
        return bytes(answer["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        """See storage.places.Place."""
        self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """See storage.places.Place: a put that S3 refuses when the key is taken."""
        try:
            self.client.put_object(
                Bucket=self.bucket, Key=self._name(key), Body=data, IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            raise self._translate(error, key) from None
        return True

    def upload(self, key: str, source: Path) -> None:
        """See storage.places.Place."""
        self.client.upload_file(str(source), self.bucket, self._name(key))

    def download(self, key: str, target: Path) -> None:
        """See storage.places.Place."""
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(target.name + ".part")
        try:
            self.client.download_file(self.bucket, self._name(key), str(aside))
        except ClientError as error:
            raise self._translate(error, key) from None
        os.replace(aside, target)

    def exists(self, key: str) -> bool:
        """See storage.places.Place."""
        try:
            self.client.head_object(Bucket=self.bucket, Key=self._name(key))
        except ClientError as error:
            if _code(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise self._translate(error, key) from None
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """See storage.places.Place."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._name(prefix)
        )
        skip = len(self.prefix) + 1 if self.prefix else 0
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"][skip:]

    def remove(self, key: str) -> None:
        """See storage.places.Place."""
        self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _translate(self, error: ClientError, key: str) -> Exception:
        if _code(error) in ("404", "NoSuchKey", "NotFound"):
            return KeyError(key)
        return PlaceError(f"store {self.location}: {key}: {_reason(error)}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _reason(error: Exception) -> str:
    # The code and kind alone: a botocore message may carry a signed address.
    return _code(error) or type(error).__name__ if isinstance(error, ClientError) else type(error).__name__
