"""What a deployment is: the command line's arguments before the environment, and back into it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import yaml

from assets.deployment import ROOT, USED_BY, deployment, prepare_home
from assets.materialize import materialize_stale
from pipelines.settings import SettingError
from storage.places import PlaceError
from tests.assets import conftest

TINY = f"{conftest.__name__}:GRAPH"


def test_the_default_lives_in_the_cellar(house):
    deployed = deployment("tiny", environment={"VJEPA2_GRAPH": TINY})
    assert deployed.home == ROOT / "dagster_home"
    assert deployed.store_at == str(ROOT / "dagster_home" / "store")


def test_arguments_come_before_the_environment(house):
    environment = {
        "VJEPA2_GRAPH": TINY,
        "VJEPA2_PROFILE": "paper",
        "VJEPA2_STORE": "/elsewhere",
        "VJEPA2_SET": "counts.upto=2",
    }
    deployed = deployment("tiny", ["counts.broken=0"], "s3://bucket/x", environment)
    assert (deployed.profile_name, deployed.store_at) == ("tiny", "s3://bucket/x")
    assert (deployed.profile.counts.upto, deployed.profile.counts.broken) == (2, 0)
    assert deployment("tiny", ["counts.upto=3"], None, environment).profile.counts.upto == 3


def test_the_page_builds_the_same_deployment_as_the_command_line(house):
    """`vjepa2 ui` hands its deployment over in the environment: also values with blanks in them."""
    deployed = house.deployed("total.label=my grand total", "counts.upto=3")
    assert deployment(environment=deployed.environment()) == deployed
    assert deployed.profile.total.label == "my grand total"


def test_a_relative_store_is_one_place_whatever_the_working_directory(house, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert deployment("tiny", store="store", environment={"VJEPA2_GRAPH": TINY}).store_at == str(
        tmp_path / "store"
    )


def test_the_cache_lies_below_the_home_unless_it_is_set(house, tmp_path):
    environment = {"VJEPA2_GRAPH": TINY, "VJEPA2_HOME": str(tmp_path / "home")}
    execution = deployment("tiny", environment=environment).profile.execution
    assert execution.cache == tmp_path / "home" / "cache"
    elsewhere = [f"execution.cache={tmp_path / 'other'}"]
    execution = deployment("tiny", elsewhere, environment=environment).profile.execution
    assert execution.cache == tmp_path / "other"


def test_the_list_of_takedowns_lies_beside_what_the_deployment_shows(house):
    environment = {"VJEPA2_GRAPH": TINY, "VJEPA2_DEPLOYMENT": "me"}
    execution = deployment("tiny", store="s3://bucket/x", environment=environment).profile.execution
    assert execution.takedowns == "s3://bucket/x/takedowns/me.json"


def own_graph(folder: Path, *lines: str) -> dict[str, str]:
    """A module of somebody's own in a folder, and the environment that names its graph."""
    folder.mkdir(exist_ok=True)
    (folder / "own_graph_of_mine.py").write_text("\n".join(lines))
    return {"VJEPA2_GRAPH": "own_graph_of_mine:GRAPH", "VJEPA2_HOME": str(folder / "home")}


@pytest.fixture
def forgotten(monkeypatch):
    """What a test imports is forgotten after it."""
    monkeypatch.setattr("sys.path", [place for place in sys.path if place])
    yield
    sys.modules.pop("own_graph_of_mine", None)


@pytest.mark.usefixtures("forgotten")
def test_a_graph_of_ones_own_is_found_in_the_current_folder(house, monkeypatch, tmp_path):
    environment = own_graph(tmp_path / "mine", f"from {conftest.__name__} import GRAPH")
    monkeypatch.chdir(tmp_path / "mine")
    assert deployment("tiny", environment=environment).graph is conftest.GRAPH


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("import not_installed_here", ModuleNotFoundError),
        ("from json import lods", ImportError),
        ("[].size", AttributeError),
        ("int('one')", ValueError),
    ],
)
def test_what_breaks_in_a_graph_of_ones_own_keeps_its_traceback(
    house, monkeypatch, tmp_path, line, error
):
    environment = own_graph(tmp_path / "mine", line)
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(error) as broken:
        deployment("tiny", environment=environment)
    assert not isinstance(broken.value, SettingError)
    assert any("own_graph_of_mine.py" in str(entry.path) for entry in broken.traceback)


def test_an_unknown_profile_is_refused_with_the_nearest(house):
    with pytest.raises(SettingError, match="--profile tinny: no such profile; did you mean tiny"):
        deployment("tinny", environment={"VJEPA2_GRAPH": TINY})


def test_a_new_home_gets_this_projects_settings_and_an_old_one_keeps_its_own(tmp_path: Path):
    prepare_home(tmp_path / "new")
    assert yaml.safe_load((tmp_path / "new" / "dagster.yaml").read_text())["telemetry"]
    (tmp_path / "new" / "dagster.yaml").write_text("# mine\n")
    prepare_home(tmp_path / "new")
    assert (tmp_path / "new" / "dagster.yaml").read_text() == "# mine\n"


def test_two_people_on_one_store_do_not_show_each_others_answers(house, monkeypatch, tmp_path):
    shared, seen = str(tmp_path / "shared"), {}
    for person in ("ann", "bo"):
        monkeypatch.setattr("getpass.getuser", lambda person=person: person)
        environment = {"VJEPA2_GRAPH": TINY, "VJEPA2_HOME": str(tmp_path / person)}
        seen[person] = deployment("tiny", store=shared, environment=environment)
        assert seen[person].name == person
    told = io.StringIO()
    materialize_stale(seen["ann"], seen["ann"].open_store(), house.instance, ["total"], told)
    assert seen["ann"].open_store().ref("total") is not None
    assert seen["bo"].open_store().ref("total") is None
    # What one has made the other finds instead of making it again.
    conftest.MADE.clear()
    materialize_stale(seen["bo"], seen["bo"].open_store(), house.instance, ["total"], told)
    assert conftest.MADE == []


def test_the_store_below_the_home_needs_no_name(tmp_path):
    own = deployment("tiny", environment={"VJEPA2_GRAPH": TINY, "VJEPA2_HOME": str(tmp_path)})
    assert own.name == "default"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ('{"format": 2, "dagster": "1.0.0"}', "format 2, this is 1"),
        ('{"format": 1, "dagster": "99.1.0"}', "dagster version 99.1.0, this is "),
    ],
)
def test_a_home_of_a_newer_version_is_one_line_and_nothing_is_touched(tmp_path, note, said):
    (tmp_path / USED_BY).write_text(note)
    with pytest.raises(PlaceError, match="was last used by a newer version") as refused:
        prepare_home(tmp_path)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert (tmp_path / USED_BY).read_text() == note


@pytest.mark.parametrize("note", ['{"format": 0, "dagster": "1.12.9"}', "not json", "[1]"])
def test_a_home_of_an_older_version_or_a_damaged_note_is_used(tmp_path, note):
    (tmp_path / USED_BY).write_text(note)
    prepare_home(tmp_path)
    prepare_home(tmp_path)
    assert '"format": 1' in (tmp_path / USED_BY).read_text()
