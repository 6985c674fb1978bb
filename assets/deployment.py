"""A deployment: which profile, which settings, which store, and where Dagster keeps its records.

The command line and the page describe theirs in the same environment variables, so that both build
the same graph:

    VJEPA2_PROFILE   demo, laptop or paper
    VJEPA2_STORE     a folder or s3://bucket/prefix
    VJEPA2_SET       settings as on the command line, quoted as in a shell: "encoder.lr=1e-4 …"
    VJEPA2_HOME      the folder of dagster.yaml and of everything that runs write
    VJEPA2_GRAPH     module:NAME of another graph than this project's: one with your own assets
    VJEPA2_DEPLOYMENT  the name under which a store that several people use notes what is shown here
"""

from __future__ import annotations

import getpass
import importlib
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.assignments import override
from pipelines.node import Graph, Profile
from pipelines.provenance import ROOT, default_home
from pipelines.schemas import nearest
from pipelines.settings import SettingError
from storage.artifacts import ArtifactStore
from storage.places import PlaceError

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

    def open_store(self) -> ArtifactStore:
        """The artifact store; PlaceError when it cannot be written or does not answer."""
        return ArtifactStore(self.store_at, self.profile.execution.cache, self.name)

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
        SettingError: unknown profile, unknown setting, or a value that does not fit its setting.
    """
    graph_at = environment.get("VJEPA2_GRAPH") or DEFAULT_GRAPH
    graph = named_graph(graph_at)
    name = profile or environment.get("VJEPA2_PROFILE") or DEFAULT_PROFILE
    if name not in graph.profiles:
        raise SettingError(f"--profile {name}: no such profile{nearest(name, graph.profiles)}")
    applied = (*shlex.split(environment.get("VJEPA2_SET", "")), *settings)
    home = Path(environment.get("VJEPA2_HOME") or default_home()).resolve()
    location = store or environment.get("VJEPA2_STORE") or str(home / "store")
    if "://" not in location:
        location = str(Path(location).expanduser().resolve())
    settled = override(graph.profiles[name], applied)
    called = environment.get("VJEPA2_DEPLOYMENT") or _default_name(location, home)
    return Deployment(graph_at, graph, called, name, applied, settled, location, home)


def _default_name(location: str, home: Path) -> str:
    """`default` for a store below the home; else the login name: others may use that store too."""
    if "://" not in location and Path(location).is_relative_to(home):
        return "default"
    try:
        return re.sub(r"[^A-Za-z0-9._-]", "-", getpass.getuser())
    except (KeyError, OSError):  # a container whose user has no name
        return "default"


def named_graph(name: str) -> Graph:
    """The graph that `module:NAME` is.

    Raises:
        SettingError: there is no such module or name, or it is no graph.
    """
    module, _, attribute = name.partition(":")
    try:
        graph = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"VJEPA2_GRAPH={name}: {error}; give module:NAME of a graph") from None
    if not isinstance(graph, Graph):
        raise SettingError(f"VJEPA2_GRAPH={name}: is no Graph; give module:NAME of one")
    return graph


def prepare_home(home: Path) -> None:
    """Make a Dagster home usable: the folder, and this project's settings where it has none.

    Raises PlaceError when the folder cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copyfile(ROOT / "dagster_home" / "dagster.yaml", home / "dagster.yaml")
    except OSError as error:
        raise PlaceError(
            f"home {home}: cannot be written ({error.strerror}); choose another folder with "
            "VJEPA2_HOME, or make it writable"
        ) from error
