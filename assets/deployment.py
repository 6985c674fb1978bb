"""A deployment: which profile, which settings, which store, and where Dagster keeps its records.

The command line and the page describe theirs in the same environment variables, so that both build
the same graph:

    VJEPA2_PROFILE   demo, laptop or paper
    VJEPA2_STORE     a folder or s3://bucket/prefix
    VJEPA2_SET       settings as on the command line, quoted as in a shell: "encoder.lr=1e-4 …"
    VJEPA2_HOME      the folder of dagster.yaml and of everything that runs write
    VJEPA2_GRAPH     module:NAME of another graph than this project's: one with your own assets
    VJEPA2_DEPLOYMENT  the name under which a store that several people use notes what is shown here
    VJEPA2_CACHE     a folder for what may be lost, before the setting execution.cache
"""

from __future__ import annotations

import getpass
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.assignments import override
from pipelines.node import Graph, Profile
from pipelines.provenance import ROOT, default_home
from pipelines.schemas import nearest
from pipelines.settings import SettingError
from storage.artifacts import ArtifactStore
from storage.keys import Keyring
from storage.places import PlaceError
from storage.takedowns import key_of

DEFAULT_PROFILE = "demo"
DEFAULT_GRAPH = "pipelines.nodes:GRAPH"


@dataclass(frozen=True)
class Deployment:
    """One graph under one profile with its settings, over one store and one Dagster home."""

    graph_at: str
    """`module:NAME` of the graph."""
    graph: Graph
    name: str
    """Under which the store notes what this deployment shows; others' artifacts are not shown."""
    profile_name: str
    settings: tuple[str, ...]
    """`path=value` assignments on top of the profile."""
    profile: Profile
    """The profile with the settings applied."""
    store_at: str
    """A folder or s3://bucket/prefix."""
    home: Path
    variant: str | None = None
    """The name under which something is made beside what the deployment shows."""

    def open_store(self, *, read_only: bool = False) -> ArtifactStore:
        """The artifact store; PlaceError when it does not answer, or cannot be written (which is
        not tried for who only asks).
        """
        run_by = self.profile.execution
        return ArtifactStore(
            self.store_at, run_by.cache, self.name, read_only=read_only, variant=self.variant,
            keyring=self.keyring, unsigned=run_by.unsigned,
        )  # fmt: skip

    @property
    def keyring(self) -> Keyring:
        """The deployment's own key and those that its user trusts, below its home."""
        return Keyring(self.home / "keys")

    def environment(self) -> dict[str, str]:
        """The variables that describe this deployment to another process."""
        return {
            "VJEPA2_PROFILE": self.profile_name,
            "VJEPA2_SET": shlex.join(self.settings),
            "VJEPA2_STORE": self.store_at,
            "VJEPA2_HOME": str(self.home),
            "VJEPA2_GRAPH": self.graph_at,
            "VJEPA2_DEPLOYMENT": self.name,
            "DAGSTER_HOME": str(self.home),
        }


def deployment(
    profile: str | None = None,
    settings: Sequence[str] = (),
    store: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Deployment:
    """The deployment that the arguments ask for; what they leave open comes from `environment`.

    Raises:
        SettingError: unknown profile, unknown setting, a value that does not fit its setting, or
            a variable of the environment that cannot be read.
    """
    graph_at = environment.get("VJEPA2_GRAPH") or DEFAULT_GRAPH
    graph = named_graph(graph_at)
    name = profile or environment.get("VJEPA2_PROFILE") or DEFAULT_PROFILE
    if name not in graph.profiles:
        raise SettingError(f"--profile {name}: no such profile{nearest(name, graph.profiles)}")
    applied = (*_listed(environment.get("VJEPA2_SET", "")), *settings)
    home = _folder("VJEPA2_HOME", environment.get("VJEPA2_HOME") or str(default_home()))
    location = store or environment.get("VJEPA2_STORE") or str(home / "store")
    if "://" not in location:
        location = str(_folder("store", location))
    settled = override(_at_home(graph.profiles[name], home), applied)
    called = environment.get("VJEPA2_DEPLOYMENT") or _default_name(location, home)
    for field, key in (("takedowns", key_of(called)), ("ledger", f"ledger/{called}")):
        if getattr(settled.execution, field) is None:
            lies_at = {field: f"{location.rstrip('/')}/{key}"}
            settled = replace(settled, execution=replace(settled.execution, **lies_at))
    return Deployment(graph_at, graph, called, name, applied, settled, location, home)


def _listed(assignments: str) -> list[str]:
    """The settings of VJEPA2_SET, quoted as in a shell."""
    try:
        return shlex.split(assignments)
    except ValueError as error:
        raise SettingError(
            f"VJEPA2_SET={assignments}: {error}; quote each setting as in a shell"
        ) from None


def _folder(called: str, path: str) -> Path:
    """A folder that somebody named, from the root down, `~` read as in a shell."""
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # no such user, a NUL, links in a circle
        raise SettingError(f"{called} {path!a}: {error}; give another folder") from None


def _at_home(profile: Profile, home: Path) -> Profile:
    """The profile with its cache below the home, unless it names another than the default's."""
    if profile.execution.cache != default_home() / "cache":
        return profile
    return replace(profile, execution=replace(profile.execution, cache=home / "cache"))


def _default_name(location: str, home: Path) -> str:
    """`default` for a store below the home; else the login name: others may use that store too."""
    if "://" not in location and Path(location).is_relative_to(home):
        return "default"
    try:
        return re.sub(r"[^A-Za-z0-9._-]", "-", getpass.getuser())
    except (KeyError, OSError):  # a container whose user has no name
        return "default"


def named_graph(name: str) -> Graph:
    """The graph that `module:NAME` is; the module may lie in the current folder.

    What the module itself raises is passed on as it is.

    Raises:
        SettingError: there is no such module or name, or it is no graph.
    """
    module, _, attribute = name.partition(":")
    advice = "give module:NAME of a graph"
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise SettingError(f"VJEPA2_GRAPH={name}: is not of that form; {advice}")
    if name != DEFAULT_GRAPH and not {"", str(Path.cwd())} & set(sys.path):
        # `python -m` looks into the current folder, a script does not: both find the same module.
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # a module of somebody's own that lacks another
        raise SettingError(f"VJEPA2_GRAPH={name}: {error}; {advice}") from None
    if not hasattr(found, attribute):
        raise SettingError(f"VJEPA2_GRAPH={name}: {module} has no {attribute}; {advice}")
    graph = getattr(found, attribute)
    if not isinstance(graph, Graph):
        raise SettingError(f"VJEPA2_GRAPH={name}: is no Graph; {advice}")
    return graph


HOME_FORMAT = 1
"""Of what a home holds beside Dagster's records; raised when an older version cannot read it."""
USED_BY = "used_by.json"


def prepare_home(home: Path) -> None:
    """Make a Dagster home usable: the folder, this project's settings where it has none, and a note
    of which versions used it.

    Raises PlaceError when the folder cannot be written, or belongs to a newer version.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copyfile(ROOT / "dagster_home" / "dagster.yaml", home / "dagster.yaml")
        used = {"format": HOME_FORMAT, "dagster": version("dagster")}
        if (known := _used_by(home)) != used:
            _refuse_newer(home, known, used)
            (home / USED_BY).write_text(json.dumps(used) + "\n")
    except OSError as error:
        raise PlaceError(
            f"home {home}: cannot be written ({error.strerror}); choose another folder with "
            "VJEPA2_HOME, or make it writable"
        ) from error


def _used_by(home: Path) -> dict[str, Any]:
    """What last used a home; nothing where it is new, or the note is damaged."""
    try:
        note = json.loads((home / USED_BY).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _refuse_newer(home: Path, known: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    for what in used:
        if _numbers(known.get(what)) > _numbers(used[what]):
            name = "format" if what == "format" else f"{what} version"
            raise PlaceError(
                f"home {home}: was last used by a newer version ({name} {known[what]}, this is "
                f"{used[what]}); use that version, or another folder with VJEPA2_HOME"
            )


def _numbers(told: object) -> list[int]:
    """`1.13.27` -> [1, 13]: Dagster's records change with the first two."""
    return [int(part) for part in re.findall(r"\d+", str(told or ""))[:2]]
