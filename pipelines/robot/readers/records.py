"""TFRecord files and the `tf.train.Example` in each record, without TensorFlow.

A record is its length (8 bytes, little endian), a checksum of that, the bytes, and a checksum of
those; checksums are masked CRC-32C. An Example is a protocol buffer of named lists of bytes, floats
or integers. Files are untrusted: every length is checked against what is there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import InputError

MAX_RECORD = 1 << 30
Value = list[bytes] | np.ndarray


def _table() -> list[int]:
    made = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        made.append(byte)
    return made


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C of some bytes, masked as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    """The records of a file, in order. Raises InputError where one is cut short or damaged."""
    with open(path, "rb") as file:
        number = 0
        while head := file.read(12):
            if len(head) < 12:
                raise InputError(f"{path.name}: record {number} is cut short")
            length, check = struct.unpack("<QI", head)
            if masked_crc(head[:8]) != check or length > MAX_RECORD:
                raise InputError(f"{path.name}: the length of record {number} is damaged")
            data, tail = file.read(length), file.read(4)
            if len(data) < length or len(tail) < 4:
                raise InputError(f"{path.name}: record {number} is cut short")
            if struct.unpack("<I", tail)[0] != masked_crc(data):
                raise InputError(f"{path.name}: record {number} is damaged: its checksum differs")
            yield data
            number += 1


def parse_example(data: bytes) -> dict[str, Value]:
    """Feature -> its list of an Example. Raises ValueError for what is no Example."""
    found: dict[str, Value] = {}
    for _, features in _fields(data):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            found[bytes(_message(parts[1])).decode()] = _value(parts.get(2, b""))
    return found


def _value(feature: Any) -> Value:
    for kind, listed in _fields(feature):
        values = [value for _, value in _fields(listed)]
        if kind == 1:
            return [bytes(_message(value)) for value in values]
        if kind == 2:  # packed floats, or one after another
            return np.concatenate(
                [np.frombuffer(_message(value), "<f4") for value in values] or [np.empty(0)]
            )
        if kind == 3:
            numbers = [n for v in values for n in ([v] if isinstance(v, int) else _packed(v))]
            return np.array(numbers, dtype=np.int64)
    return []


def _packed(data: Any) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        yield number


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """(number, bytes or int) of each field of a message."""
    view, at = memoryview(_message(data)), 0
    while at < len(view):
        start = at
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value: Any
            value, at = _varint(view, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = view[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(view, at)
            value, at = view[at : at + size], at + size
        else:
            raise ValueError(f"a field of wire type {wire}")
        if not start < at <= len(view):  # a length may be negative
            raise ValueError("a field that is longer than its message")
        yield number, value


def _message(value: Any) -> Any:
    """Bytes, and no number in their place, of which `bytes` would make as many zeros."""
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _varint(data: Any, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number without an end")
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            number &= (1 << 64) - 1
            return (number - (1 << 64) if number >> 63 else number), at
