"""Claims: no value outside an HDF5 file is ever read through it, whichever of HDF5's doors names
it; what asks for plugins or for memory it does not fill is refused before a value is read; damage
is one line, never another exception."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zlib

import h5py
import numpy as np
import pytest

from pipelines.robot.hdf5 import MAX_DEPTH, MAX_OBJECTS, Hdf5Error, read_hdf5, write_hdf5
from pipelines.robot.trajectory import GRIPPER, POSES, TrajectoryError, read_trajectory

SECRET = np.arange(30.0).reshape(5, 6) + 0.125


@pytest.fixture
def plant(tmp_path):
    """A secret outside, and a way to make a trajectory whose poses are `made(file)`."""
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["poses"] = SECRET

    def planted(make) -> bytes:
        path = tmp_path / "source" / "trajectory.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file[GRIPPER] = np.zeros(5)
            make(file, tmp_path)
        return path.read_bytes()

    return planted


def external_storage(file, outside):
    file.create_dataset(POSES, (5, 6), "f8", external=[(str(outside / "secret.bin"), 0, 240)])


def relative_storage(file, outside):
    file.create_dataset(POSES, (5, 6), "f8", external=[("../secret.bin", 0, 240)])


def virtual_dataset(file, outside):
    layout = h5py.VirtualLayout((5, 6), "f8")
    layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "poses", shape=(5, 6))
    file.create_virtual_dataset(POSES, layout)


def external_link(file, outside):
    file[POSES] = h5py.ExternalLink(str(outside / "secret.h5"), "poses")


def soft_link(file, outside):
    file["elsewhere"] = h5py.ExternalLink(str(outside / "secret.h5"), "/")
    file[POSES] = h5py.SoftLink("/elsewhere/poses")


def linked_group(file, outside):
    file["observation/elsewhere"] = h5py.ExternalLink(str(outside / "secret.h5"), "/")
    file[POSES] = np.zeros((5, 6))


def unread_storage(file, outside):
    file.create_dataset("a/b/c", (5,), "u1", external=[(str(outside / "secret.bin"), 0, 5)])
    file[POSES] = np.zeros((5, 6))


DOORS = [
    (external_storage, "keeps the values of .* in another file"),
    (relative_storage, "keeps the values of .* in another file"),
    (virtual_dataset, "keeps the values of .* in another file"),
    (external_link, "holds a link to another file: observation"),
    (soft_link, "holds a (soft link|link to another file): "),
    (linked_group, "holds a link to another file: observation/elsewhere"),
    (unread_storage, "keeps the values of a/b/c in another file"),
]


@pytest.mark.parametrize(("door", "reason"), DOORS)
def test_no_door_leads_to_the_secret(plant, door, reason):
    data = plant(door)
    with pytest.raises(TrajectoryError, match=f"trajectory.h5 {reason}") as error:
        read_trajectory(data, "1")
    assert "\n" not in str(error.value)


def test_the_secret_is_there_for_a_reader_who_does_not_look(plant, tmp_path):
    """The planted door is real: plain h5py reads through it."""
    plant(external_storage)
    with h5py.File(tmp_path / "source" / "trajectory.h5") as file:
        assert (file[POSES][()] == SECRET).all()


def references(file, _):
    file["there"] = np.zeros((5, 6))
    kind = h5py.ref_dtype
    file.create_dataset(POSES, (5, 6), kind)[...] = np.full((5, 6), file["there"].ref, kind)


def regions(file, _):
    file["there"] = np.zeros((5, 6))
    file.create_dataset(POSES, (1,), h5py.regionref_dtype)[0] = file["there"].regionref[:2]


def varying(file, _):
    rows = file.create_dataset(POSES, (5,), h5py.vlen_dtype(np.float64))
    rows[0] = np.zeros(6)


def words(file, _):
    file[POSES] = ["0.5"] * 5


def records(file, _):
    file[POSES] = np.zeros(5, dtype=[("x", "f8"), ("y", "f8")])


def vast(file, _):
    file.create_dataset(POSES, (10**13, 6), "f8", chunks=(1000, 6), compression="gzip")


def vast_scalars(file, _):
    file.create_dataset(POSES, (2**63 - 1,), "u1", chunks=(1000,))


def vast_chunk(file, _):
    file.create_dataset(POSES, (5, 6), "f8", chunks=(10**6, 6), maxshape=(None, 6))


def bomb(file, _):
    """A chunk that unpacks to far more than its shape says."""
    rows = file.create_dataset(POSES, (5, 6), "f8", chunks=(5, 6), compression="gzip")
    rows.id.write_direct_chunk((0, 0), zlib.compress(bytes(64 << 20)))


def twice(file, _):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((5, 6))
    made.set_deflate(9)
    made.set_deflate(9)
    space = h5py.h5s.create_simple((5, 6))
    h5py.h5d.create(file["observation/robot_state"].id, POSES.rsplit("/")[-1].encode(),
                    h5py.h5t.NATIVE_DOUBLE, space, made)  # fmt: skip


def scaled(file, _):
    file.create_dataset(POSES, (5, 6), "i8", chunks=(5, 6), scaleoffset=4)


def empty(file, _):
    file[POSES] = h5py.Empty("f8")


def group(file, _):
    file.create_group(POSES)


def own_parent(file, _):
    file["observation/again"] = file["observation"]


def deep(file, _):
    file["/".join("x" * (MAX_DEPTH + 1))] = 0.0


def many(file, _):
    for number in range(MAX_OBJECTS + 1):
        file.create_group(f"many/{number}")


def odd_name(file, _):
    file[b"two\nlines\xff"] = h5py.SoftLink("/")


def words_as_flag(file, _):
    file[POSES] = np.zeros((5, 6))
    file.attrs["success"] = "no"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (references, "has no numbers at "),
        (regions, "has no numbers at "),
        (varying, "has no numbers at "),
        (words, "has no numbers at "),
        (records, "has no numbers at "),
        (empty, "has no numbers at "),
        (group, "has a group, not a column, at "),
        (vast, r"has shape \(10000000000000, 6\) at .*: too large"),
        (vast_scalars, "has shape .*: too large"),
        (vast_chunk, "has chunks of 48000000 bytes at .*: too large"),
        (bomb, "has chunks of 6.... bytes at .*: too large"),
        (twice, "compresses .* more than once"),
        (scaled, "needs filter 6, a plugin, for "),
        (own_parent, "has a group of two names: observation/again"),
        (deep, "has over .* levels"),
        (many, "has over 4096 objects"),
        (odd_name, r"holds a soft link: .*\\n"),
        (words_as_flag, "has an attribute success that is no single number"),
    ],
)
def test_what_is_refused_is_said_in_one_line(plant, make, reason):
    with pytest.raises(TrajectoryError, match=f"trajectory.h5 {reason}") as error:
        read_trajectory(plant(make), "1")
    str(error.value).encode()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "how",
    [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf", "fletcher32": True}],
)
def test_ordinary_files_are_read(plant, how):
    def ordinary(file, _):
        file.create_dataset(POSES, data=SECRET.astype(np.float32), maxshape=(None, 6), **how)
        file["words"] = ["never read"]
        file.attrs["success"] = True

    columns, flag = read_hdf5(plant(ordinary), (POSES, GRIPPER, "absent"), "success")
    assert set(columns) == {POSES, GRIPPER}
    assert (columns[POSES] == SECRET).all()
    assert columns[POSES].dtype == np.float64
    assert flag == 1


FUZZ = """
    import random, sys
    from pipelines.robot.hdf5 import Hdf5Error, read_hdf5
    data, draw, refused = sys.stdin.buffer.read(), random.Random(0), 0
    for turn in range(1500):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(min(len(changed), 6000))] = draw.randrange(256)
        try:
            read_hdf5(bytes(changed[: draw.choice([len(data), draw.randrange(len(data))])]), (
                "observation/robot_state/cartesian_position", "x"), "success")
        except Hdf5Error as error:
            assert "\\n" not in str(error), repr(str(error))
            refused += 1
    print(refused)
"""


def test_damage_is_one_line_and_never_another_exception(plant):
    data = write_hdf5({POSES: SECRET, GRIPPER: np.zeros(5), "x": np.zeros(5)}, {"success": True})
    # In a process of its own: a crash of the C library would be a failure, not an end of the suite.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FUZZ)], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 700


def test_a_file_beyond_the_limit_is_not_opened(monkeypatch):
    monkeypatch.setattr("pipelines.robot.hdf5.MAX_BYTES", 100)
    with pytest.raises(Hdf5Error, match="bytes; at most 100 are read"):
        read_hdf5(bytes(101), (), "success")
