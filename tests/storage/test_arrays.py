"""Arrays come back in blocks as they were saved, by numpy or block by block; a file that is cut
short, or is no such array, is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.arrays import (
    array_shape,
    pick_rows,
    read_blocks,
    read_rows,
    write_blocks,
    write_rows,
)

ROWS = np.arange(70, dtype=np.float32).reshape(10, 7)


@pytest.mark.parametrize("rows", [1, 3, 10, 99])
def test_blocks_are_the_rows_in_order(tmp_path: Path, rows: int) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    assert array_shape(tmp_path / "a.npy") == (10, 7)
    blocks = list(read_blocks(tmp_path / "a.npy", rows))
    assert {len(block) for block in blocks[:-1]} <= {rows}
    assert (np.concatenate(blocks) == ROWS).all()
    assert list(read_blocks(_saved(tmp_path, ROWS[:0]), rows)) == []


def test_what_is_written_in_blocks_is_what_numpy_would_save(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    write_blocks(tmp_path / "b.npy", (ROWS[:4], ROWS[4:4], ROWS[4:]), ROWS.shape, np.float32)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    with pytest.raises(ValueError, match="4 rows were given, 10 told before"):
        write_blocks(tmp_path / "b.npy", (ROWS[:4],), ROWS.shape, np.float32)


def test_refusals(tmp_path: Path) -> None:
    whole = _saved(tmp_path, ROWS)
    whole.write_bytes(whole.read_bytes()[:-5])
    with pytest.raises(ValueError, match="cut short within rows 8 to 10"):
        list(read_blocks(whole, 4))
    with pytest.raises(ValueError, match="Fortran order"):
        list(read_blocks(_saved(tmp_path, np.asfortranarray(ROWS)), 4))


def _saved(folder: Path, rows: np.ndarray) -> Path:
    np.save(folder / "saved.npy", rows)
    return folder / "saved.npy"


def test_rows_in_any_order_are_where_they_belong(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(50)
    order[20:30] = np.sort(order[20:30])
    path = tmp_path / "rows.npy"
    pieces = [
        (order[first : first + 15], array[order[first : first + 15]]) for first in (0, 15, 30, 45)
    ]
    write_rows(path, iter(pieces), array.shape, np.float32)
    np.save(tmp_path / "whole.npy", array)
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert (read_rows(path, 7, 11) == array[7:18]).all()
    assert (pick_rows(path, np.array([9, 2, 9])) == array[[9, 2, 9]]).all()
    with pytest.raises(ValueError, match="cut short within rows 45 to 51"):
        read_rows(path, 45, 6)
