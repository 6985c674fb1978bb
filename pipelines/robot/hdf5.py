"""HDF5 files as untrusted bytes. The only module that imports h5py.

An HDF5 file can name other files (external and soft links, external storage, virtual datasets), ask
for memory that it does not fill (absurd shapes, compressed bombs) and for code (filters from
plugins). So every object is looked at before the first value is read, and what is refused is
refused for the whole file, wherever in it that lies.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.errors import UserError

MAX_BYTES = 256 << 20
"""Of a file, and of one column's values. A DROID trajectory has less than a hundredth of it."""
MAX_OBJECTS = 4096
MAX_DEPTH = 16
MAX_CHUNK = 1 << 20
"""Bytes of one chunk (h5py makes none larger). Deflate, at its best, makes a thousand of one."""
_COMPRESSION = {1: "gzip", 32000: "lzf"}
_FILTERS = {*_COMPRESSION, 2, 3}  # 2: shuffle, 3: fletcher32
_OVERHEAD = 4096  # bytes that compression, at its worst, adds to a chunk
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
# What h5py raises of a file whose bytes are damaged.
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)

Columns = dict[str, NDArray[np.float64]]


class Hdf5Error(UserError, ValueError):
    """A file that is damaged or asks for what is refused; the message says what it does,
    as one line that goes on after the file's name: "holds a soft link: x".
    """


def write_hdf5(
    columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, str | int | float | bool]
) -> bytes:
    """An HDF5 file with `columns` (path -> [T, ...]) and root `attributes`, the same every time."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        for path, values in sorted(columns.items()):
            file.create_dataset(path, data=values, track_times=False)
        for name, value in sorted(attributes.items()):
            file.attrs[name] = value
    return buffer.getvalue()


def read_hdf5(
    data: bytes, columns: Collection[str], attribute: str
) -> tuple[Columns, np.float64 | None]:
    """Those of some columns that a file has (path -> values), and a root attribute or None.

    Raises:
        Hdf5Error: the file is damaged or too large, names other files, needs a plugin, or holds
            something else than numbers where a column or the attribute should be.
    """
    if len(data) > MAX_BYTES:
        raise Hdf5Error(f"has {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = dict(_objects(file.id))
            for path, item in found.items():
                _check(path, item)
            values = {path: _values(path, found[path]) for path in columns if path in found}
            return values, _attribute(file.id, attribute)
    except Hdf5Error:
        raise
    except _DAMAGED as error:
        detail = str(error).partition("(")[2].rstrip(")") or str(error) or type(error).__name__
        raise Hdf5Error(f"is no readable HDF5 file: {_line(detail)}") from None


def _objects(root: h5py.h5g.GroupID) -> Iterator[tuple[str, Any]]:
    """Path -> object of everything that hard links reach; each group has one name."""
    waiting, walked, number = [("", root)], {_address(root)}, 0
    while waiting:
        where, group = waiting.pop()
        for name, kind in _links(group):
            path, number = f"{where}{name}", number + 1
            if kind != h5py.h5l.TYPE_HARD:
                raise Hdf5Error(f"holds {_LINKS.get(kind, 'an odd link')}: {_line(path)}")
            if number > MAX_OBJECTS or path.count("/") >= MAX_DEPTH:
                raise Hdf5Error(f"has over {MAX_OBJECTS} objects, or over {MAX_DEPTH} levels")
            item = h5py.h5o.open(group, name.encode("utf-8", "surrogateescape"))
            yield path, item
            if isinstance(item, h5py.h5g.GroupID):
                if _address(item) in walked:
                    raise Hdf5Error(f"has a group of two names: {_line(path)}")
                walked.add(_address(item))
                waiting.append((f"{path}/", item))


def _links(group: h5py.h5g.GroupID) -> list[tuple[str, int]]:
    """Name and kind of the links in a group, no more of them than will be accepted."""
    found: list[tuple[str, int]] = []

    def note(name: bytes, info: Any) -> bool | None:
        found.append((name.decode("utf-8", "surrogateescape"), info.type))
        return True if len(found) > MAX_OBJECTS else None  # anything but None ends the walk

    group.links.iterate(note, info=True)
    return found


def _address(item: Any) -> int:
    return int(h5py.h5o.get_info(item).addr)


def _check(path: str, item: Any) -> None:
    """Refuse a dataset that lies in another file, needs a plugin, or is compressed repeatedly."""
    if not isinstance(item, h5py.h5d.DatasetID):
        return
    made, where = item.get_create_plist(), _line(path)
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        raise Hdf5Error(f"keeps the values of {where} in another file")
    filters = [made.get_filter(place)[0] for place in range(made.get_nfilters())]
    if strange := [code for code in filters if code not in _FILTERS]:
        raise Hdf5Error(f"needs filter {strange[0]}, a plugin, for {where}")
    if sum(code in _COMPRESSION for code in filters) > 1:
        raise Hdf5Error(f"compresses {where} more than once")


def _values(path: str, item: Any) -> NDArray[np.float64]:
    """All numbers of a dataset that has passed its check, once their amount is known."""
    where = _line(path)
    if not isinstance(item, h5py.h5d.DatasetID):
        raise Hdf5Error(f"has a group, not a column, at {where}")
    kind, shape = item.get_type(), item.shape
    if kind.get_class() not in _NUMBERS or shape is None:
        raise Hdf5Error(f"has no numbers at {where}")
    size = kind.get_size()
    if size > 16 or np.prod([float(side) for side in shape]) * max(size, 8) > MAX_BYTES:
        raise Hdf5Error(f"has shape {shape} at {where}: too large")
    made = item.get_create_plist()
    if made.get_layout() == h5py.h5d.CHUNKED:
        chunk = int(np.prod([float(side) for side in made.get_chunk()])) * size
        stored: list[int] = [0]
        item.chunk_iter(lambda info: stored.append(info.size))
        if chunk > MAX_CHUNK or max(stored) > chunk + _OVERHEAD:
            raise Hdf5Error(f"has chunks of {max(chunk, *stored)} bytes at {where}: too large")
    return np.asarray(h5py.Dataset(item)[()], dtype=np.float64)


def _attribute(root: h5py.h5g.GroupID, name: str) -> np.float64 | None:
    """A root attribute that is one number (a flag is 0 or 1), or None when there is none."""
    if not h5py.h5a.exists(root, name.encode()):
        return None
    item = h5py.h5a.open(root, name.encode())
    kind = item.get_type()
    if kind.get_class() not in _NUMBERS or kind.get_size() > 16 or item.shape not in ((), (1,)):
        raise Hdf5Error(f"has an attribute {name} that is no single number")
    value = np.empty(item.shape, dtype=item.dtype)
    item.read(value)
    return np.float64(value.reshape(()))


def _line(text: str) -> str:
    """Text out of a file, as one line that can be printed and stored as UTF-8."""
    return text if text.isprintable() else ascii(text)
