"""Robot episodes in DROID's raw layout: recorded in the simulator, or a folder that is there."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pipelines.execution import ExecutionConfig
from pipelines.robot.arms import arm_files, load_arm
from pipelines.robot.blueprint import Azimuth, find_lab
from pipelines.robot.droid import (
    EPISODES,
    OUTCOMES,
    EpisodeError,
    find_episodes,
    find_lab_folder,
    read_episode,
    used_files,
)
from pipelines.robot.roles import check_labs, labs_of, number_of
from pipelines.settings import (
    EVEN,
    Count,
    Natural,
    NotNegative,
    Positive,
    at_least,
    at_most,
    settings,
)
from pipelines.stage import Inputs, Stage, Workspace
from storage.confined import PathError, inside
from storage.digests import digest_file, digest_json
from storage.errors import InputError
from storage.places import write_file
from storage.tables import QUARANTINE, write_table
from storage.work import Work

if TYPE_CHECKING:
    from pipelines.robot.simulator import Simulator

GENERATED = "generated"
# Episodes a task records or reads: enough to be worth a task, few enough to show progress.
_BATCH = 8
Hertz = Annotated[Positive, at_most(1000)]


@settings
class Shares:
    """How often an episode is of each kind, relative to the others."""

    wander: NotNegative = 0.3
    """Moves for their own sake."""
    reach: NotNegative = 0.25
    """Towards points, one after another."""
    grasp: NotNegative = 0.15
    """A thing is grasped and lifted, with noise."""
    carry: NotNegative = 0.15
    """A thing is grasped and carried to a place above the table."""
    place: NotNegative = 0.15
    """A thing is grasped, carried, put down and let go of."""

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise ValueError("all shares are 0: give one above 0")


@settings
class EpisodesConfig:
    """Where robot episodes come from; the defaults record like DROID."""

    location: str = GENERATED
    """"generated", or the folder of a raw DROID copy (the one that holds the labs)."""
    labs: tuple[str, ...] = labs_of("recording", 2)
    """Labs to take: of the simulator lab-000 to lab-399, of a folder its sub-folders' names."""
    episodes: Count = 1000
    """Generated episodes a lab."""
    frames: Annotated[int, at_least(2)] = 250
    """Control steps of a generated episode; DROID's have about 250."""
    hz: Hertz = 15.0
    """Control steps a second of a generated episode; DROID's rate."""
    container_fps: Hertz = 60.0
    """Frame rate that a generated recording claims; DROID's containers claim 60 at 15 Hz."""
    frame_size: Annotated[int, at_least(16), EVEN] = 256
    """Side of a generated recording, pixels (even)."""
    camera_jitter: NotNegative = 1.0
    """How far the camera stands from its place: times 8 and 3 degrees and 5 % of the distance."""
    camera_azimuth: Azimuth | None = None
    """Where the camera stands, degrees from x towards y; none: where each lab has it."""
    arm: str = "franka"
    """"franka", or the path of a JSON file that describes another MJCF arm (`arms.Arm`)."""
    renderer: Literal["rays", "gl"] = "rays"
    """"rays" (no OpenGL, same bytes everywhere) or "gl" (MuJoCo's own; needs MUJOCO_GL=egl)."""
    shares: Shares = field(default_factory=lambda: Shares())
    """How often a generated episode shows what."""
    faulty: Natural = 4
    """How many generated episodes of a lab have a fault that real folders have, too."""
    seed: Natural = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        if self.location == GENERATED:
            check_labs("labs", self.labs, "recording")
            return
        names = [lab.removeprefix("lab-") for lab in self.labs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"labs names {twice[0]!r} twice: name each folder once")


def narrow(config: EpisodesConfig, _: str | None) -> EpisodesConfig:
    """One lab's episodes do not depend on which other labs there are."""
    kept = replace(config, labs=())
    if config.location == GENERATED:
        return kept
    # A folder's episodes are what they are, and its digest says what that is: see `observe`.
    return replace(EpisodesConfig(labs=()), location=config.location)


def observe(
    config: EpisodesConfig, partition: str | None, execution: ExecutionConfig
) -> Mapping[str, Any]:
    """Digests of the user's files that this lab's episodes depend on, by what they are.

    Of an episode's recordings that is the left exterior camera's alone.
    """
    if config.location == GENERATED:
        files = arm_files(config.arm)
        # By name and content alone: where the folder lies does not matter.
        digests = sorted([path.name, _cached_digest(path, execution.cache)] for path in files)
        return {"arm": digest_json(digests)} if files else {}
    root = Path(config.location)
    lab = find_lab_folder(root, str(partition))
    used = [path for folder in find_episodes(lab) for path in used_files(root, folder)]
    listing = [
        [p.relative_to(root).as_posix(), _digest_inside(root, p, execution.cache)] for p in used
    ]
    return {"location": digest_json(listing)}


def _digest_inside(root: Path, path: Path, cache: Path) -> str:
    """A file's digest; of one that a link puts outside the root, only that it is there."""
    try:
        return _cached_digest(inside(root, path), cache)
    except PathError:
        return "outside"


def _cached_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered as long as its size and time of change stay the same."""
    state = path.stat()
    known = digest_json([str(path.resolve()), state.st_size, state.st_mtime_ns])
    note = cache / "files" / known[:2] / known
    if note.is_file():
        return note.read_text()
    digest = digest_file(path)
    write_file(note, digest.encode())
    return digest


@functools.lru_cache(maxsize=1)
def _simulator(config: EpisodesConfig, lab: str) -> Simulator:
    """One per process, reset for every episode."""
    # Imported here: settings and folders are read without the simulator.
    from pipelines.robot.simulator import Simulator

    return Simulator(
        find_lab(lab, config.camera_azimuth),
        config.seed,
        config.frame_size,
        hz=config.hz,
        renderer=config.renderer,
        camera_jitter=config.camera_jitter,
        arm=load_arm(config.arm),
    )


@dataclass(frozen=True)
class Batch:
    """What one task records: some episodes of a lab, by number, kept under payload/<lab>/."""

    config: EpisodesConfig
    lab: str
    numbers: Sequence[int]
    work: Work


def record_batch(batch: Batch) -> list[dict[str, Any]]:
    """Record some episodes and read each, as `read_batch` does."""
    with batch.work.room() as room:
        names = [name for number in batch.numbers for name in _record(batch, number, room)]
        found = read_batch({"root": str(room), "paths": list(dict.fromkeys(map(_episode, names)))})
        for name in names:
            batch.work.keep(room / name, f"payload/{name}")
    return found


def _record(batch: Batch, number: int, room: Path) -> list[str]:
    """Record one episode into a folder; the names of its files, <lab>/<outcome>/..."""
    from pipelines.robot.recorder import FAULTS, record

    config = batch.config
    # Faults go to the last episodes, so that asking for more never changes the first ones; labs of
    # one fault each begin with different ones.
    late = number - (config.episodes - config.faulty)
    fault = FAULTS[(number_of(batch.lab) + late) % len(FAULTS)] if late >= 0 else None
    files = record(
        _simulator(config, batch.lab),
        seed=config.seed,
        number=number,
        frames=config.frames,
        container_fps=config.container_fps,
        fault=fault,
        shares=asdict(config.shares),
    )
    for path, data in files.items():
        target = room / batch.lab / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return [f"{batch.lab}/{path}" for path in files]


def _episode(name: str) -> str:
    """<lab>/<outcome>/<date>/<time> of a file below it."""
    return "/".join(name.split("/")[:4])


def read_batch(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Read some episode folders: a row of episodes.parquet each, or of quarantine.parquet."""
    root = Path(item["root"])
    found: list[dict[str, Any]] = []
    for path in item["paths"]:
        try:
            found.append(read_episode(root, root / path).row)
        except EpisodeError as error:
            found.append({"item": path, "stage": STAGE.name, "reason": str(error)})
    return found


def _recorded(config: EpisodesConfig, lab: str, out: Workspace) -> list[dict[str, Any]]:
    """Record all episodes of a lab; a row or a reason each, in the order of their folders."""
    batches = {
        f"{start:06d}": Batch(
            config, lab, range(start, min(start + _BATCH, config.episodes)), out.work
        )
        for start in range(0, config.episodes, _BATCH)
    }
    done = out.map(record_batch, batches, noun="batches of episodes recorded")
    return sorted((row for rows in done.values() for row in rows), key=_folder_order)


def _folder_order(row: Mapping[str, Any]) -> tuple[int, str]:
    """Where `find_episodes` would find it."""
    path = str(row.get("path", row.get("item")))
    return OUTCOMES.index(path.split("/")[1]), path


def _found(config: EpisodesConfig, partition: str, out: Workspace) -> list[dict[str, Any]]:
    """Read all episodes of a lab's folder; a row or a reason each."""
    root = Path(config.location)
    lab = find_lab_folder(root, partition)
    paths = [path.relative_to(root).as_posix() for path in find_episodes(lab)]
    if not paths:
        raise InputError(f"{lab}: no episode at success|failure/<date>/<time> in it")
    items = {
        paths[start]: {"root": str(root), "paths": paths[start : start + _BATCH]}
        for start in range(0, len(paths), _BATCH)
    }
    read = out.map(read_batch, items, noun="batches of episodes read")
    return [row for batch in read.values() for row in batch]


def run(config: EpisodesConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    """Record or find the lab's episodes, read every one, and list the good and the bad."""
    generated = config.location == GENERATED
    rows = (_recorded if generated else _found)(config, str(out.partition), out)
    good, bad = [r for r in rows if "reason" not in r], [r for r in rows if "reason" in r]
    write_table(out.payload / "episodes.parquet", good, EPISODES)
    write_table(out.payload / "quarantine.parquet", bad, QUARANTINE)
    return {
        "media": "payload" if generated else config.location,
        "episodes": len(good),
        "quarantined": len(bad),
        "steps": sum(row["rows"] for row in good),
        "successes": sum(row["success"] for row in good),
    }


STAGE = Stage(
    "droid_episodes", version=2, config=EpisodesConfig, run=run, narrow=narrow, observe=observe,
    paths=("arm",),
)  # fmt: skip
