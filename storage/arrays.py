"""Arrays: rows of .npy files, a block at a time, for what is larger than memory.

A block is read into memory of its own: a file that is mapped instead counts as resident, page by
page, until the system wants the memory back.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of a saved array, from its header alone."""
    with path.open("rb") as file:
        return _header(file)[0]


def read_blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """The array [N, ...] of a file, `rows` of its rows at a time, in order.

    Raises:
        ValueError: the file is no array in C order, or is cut short.
    """
    with path.open("rb") as file:
        (count, *inner), dtype = _header(file)
        width = int(np.prod(inner, dtype=np.int64))
        for first in range(0, count, rows):
            here = min(rows, count - first)
            block = np.fromfile(file, dtype, here * width)
            if block.size < here * width:
                raise ValueError(f"{path}: cut short within rows {first} to {first + here}")
            yield block.reshape(here, *inner)


def write_blocks(
    path: Path, blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: Any
) -> None:
    """Save an array of a known shape [N, ...], given some rows at a time, as `numpy.save` would.

    Raises:
        ValueError: the blocks hold more or fewer rows.
    """
    written = 0
    with path.open("wb") as file:
        described = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False,
            "shape": shape,
        }  # fmt: skip
        np.lib.format.write_array_header_1_0(file, described)
        for block in blocks:
            np.ascontiguousarray(block, dtype).tofile(file)
            written += len(block)
    if written != shape[0]:
        raise ValueError(f"{path}: {written} rows were given, {shape[0]} told before")


def write_rows(
    path: Path,
    pieces: Iterable[tuple[NDArray[np.int64], NDArray[Any]]],
    shape: tuple[int, ...],
    dtype: Any,
) -> None:
    """Save an array of a known shape [N, ...] whose rows come in any order.

    `pieces` are places [n] and the rows [n, ...] that belong there; together they name every place
    once.
    """
    with path.open("wb") as file:
        described = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False,
            "shape": shape,
        }  # fmt: skip
        np.lib.format.write_array_header_1_0(file, described)
        file.flush()
        start, width = file.tell(), int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        for places, rows in pieces:
            order = np.argsort(places, kind="stable")
            data = np.ascontiguousarray(rows[order], dtype)
            # Neighbours are written together.
            gaps = np.flatnonzero(np.diff(places[order]) != 1) + 1
            for first, end in itertools.pairwise([0, *gaps.tolist(), len(order)]):
                if end > first:
                    at = start + int(places[order[first]]) * width
                    os.pwrite(file.fileno(), data[first:end].data, at)


def read_rows(path: Path, first: int, count: int) -> NDArray[Any]:
    """`count` rows of the array [N, ...] of a file from row `first` on.

    Raises:
        ValueError: the file is no array in C order, or ends before them.
    """
    with path.open("rb") as file:
        (_, *inner), dtype = _header(file)
        width = int(np.prod(inner, dtype=np.int64))
        file.seek(first * width * dtype.itemsize, os.SEEK_CUR)
        rows = np.fromfile(file, dtype, count * width)
    if rows.size < count * width:
        raise ValueError(f"{path}: cut short within rows {first} to {first + count}")
    return rows.reshape(count, *inner)


def pick_rows(path: Path, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows [n, ...] of the array of a file, in the order in which they are named."""
    return np.array(np.load(path, mmap_mode="r")[rows])


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{file.name}: not an array as numpy saves small headers")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran:
        raise ValueError(f"{file.name}: the array is in Fortran order; save it in C order")
    return shape, dtype
