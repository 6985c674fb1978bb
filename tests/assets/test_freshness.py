"""The page says what `vjepa2 status` says, and one click makes what is stale.

- after another value from the launchpad, all that depends on it is stale on the page, too,
  partition by partition, with the reason; what does not depend on it stays fresh;
- nothing is filed twice, and what was made anew is fresh again;
- the job `stale` makes exactly what is stale; `whole_graph` all but the studies;
- a backfill of many partitions is one run, in which each has its own data version;
- checks can be run alone.
"""

from __future__ import annotations

import socket

import dagster as dg
import pytest

from assets.definitions import build, freshness
from assets.definitions.checks import FRESH
from pipelines.graph import statuses
from tests.assets.conftest import MADE
from tests.assets.test_materialize import ALL

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def page(house):
    """The page of the tiny house: its jobs, its sensor, and what its checks show."""
    return Page(house)


class Page:
    def __init__(self, house) -> None:
        self.house = house
        self.definitions = build(house.deployed())

    def launch(self, asset, config, partition=None, tags=None):
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.house.instance, asset_selection=[dg.AssetKey(asset)],
            partition_key=partition, tags=tags, raise_on_error=False,
            run_config={"ops": {asset: {"config": config}}, **QUIET},
        )  # fmt: skip

    def look(self) -> int:
        """One tick of the sensor; how many verdicts it filed."""
        context = dg.build_sensor_context(instance=self.house.instance)
        told = self.definitions.resolve_sensor_def("freshness").evaluate_tick(context)
        return int(told.skip_message.split()[0])

    def shows(self) -> dict[str, str]:
        """What the page shows for each asset (partition)."""
        told = {}
        for state in self.states():
            key = dg.AssetCheckKey(dg.AssetKey(state.asset), FRESH)
            log = self.house.instance.event_log_storage
            history = log.get_asset_check_execution_history(key, limit=99)
            record = next((r for r in history if r.partition == state.partition), None)
            said = record.evaluation.description if record else "missing"
            told[name(state)] = said
        return told

    def newest(self, asset) -> str:
        """The partition whose verdict was filed last."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), FRESH)
        log = self.house.instance.event_log_storage
        return log.get_asset_check_execution_history(key, limit=1)[0].partition

    def states(self):
        deployed = self.house.deployed()
        return list(statuses(deployed.graph, deployed.profile, self.house.store))

    def agrees(self) -> bool:
        return self.shows() == {
            name(s): s.state if s.state == "fresh" else f"{s.state}: {s.reason}"
            for s in self.states()
        }  # fmt: skip


def name(state) -> str:
    return f"{state.asset}/{state.partition}" if state.partition else state.asset


def test_the_page_and_status_agree_after_a_value_from_the_launchpad(house, page, monkeypatch):
    monkeypatch.setattr(freshness, "SHARE", 0)
    house.run()
    assert page.look() == 0
    assert page.agrees() and set(page.shows().values()) == {"fresh"}
    page.launch("counts", {"upto": 3}, "a")
    assert page.shows()["counts/a"] == "stale: config.upto: 3 -> 5", "the run itself says so"
    page.look()
    assert page.agrees()
    shown = page.shows()
    assert shown["counts/a"] == "stale: config.upto: 3 -> 5"
    assert shown["sums/a"] == "stale: upstream counts/a is stale"
    assert shown["total"] == "stale: upstream sums/a is stale"
    assert {shown[key] for key in ("counts/b", "counts/c", "sums/b")} == {"fresh"}


def test_what_the_page_executes_again_is_no_walk(house, page):
    house.run()
    tags = {"vjepa2/host": socket.gethostname(), "vjepa2/process": "1"}  # of the run before
    page.launch("counts", {"upto": 3}, "a", tags)
    assert page.shows()["counts/a"] == "stale: config.upto: 3 -> 5"


def test_nothing_is_told_twice_and_another_reason_is_news(house, page, monkeypatch):
    monkeypatch.setattr(freshness, "SHARE", 0)
    house.run()
    page.launch("counts", {"upto": 3}, "a")
    assert page.look() == 3
    assert page.look() == 0
    page.launch("counts", {"upto": 4}, "a")
    assert page.look() == 1, "its reason is another"
    assert page.agrees()
    page.launch("counts", {}, "b")
    assert page.look() == 1, "of an asset the page shows the newest: one that is stale once more"
    assert page.newest("counts") == "a" and page.agrees()
    house.run()
    page.look()
    assert page.agrees() and set(page.shows().values()) == {"fresh"}


def test_what_the_page_does_not_know_keeps_no_verdict_from_it(house, page, monkeypatch):
    monkeypatch.setattr(freshness, "MOST", 1)
    house.run()
    house.instance = dg.DagsterInstance.ephemeral()  # records that were begun anew
    page.launch("counts", {"upto": 3}, "a")
    page.launch("counts", {}, "b")
    assert page.look() == 1, "counts/c and sums/b are fresh, and nothing can be filed of them"
    assert page.newest("counts") == "a"


def test_one_click_makes_exactly_what_is_stale(house, page):
    house.run("sums")
    page.launch("counts", {"upto": 3}, "a")
    MADE.clear()
    job = page.definitions.resolve_job_def("stale")
    assert job.execute_in_process(instance=house.instance, run_config=QUIET).success
    assert MADE == [], "counts/a and sums/a had been made before: they are shown again"
    states = {name(s): s.state for s in page.states()}
    assert states["counts/a"] == states["sums/a"] == "fresh" and states["total"] == "missing"
    job = page.definitions.resolve_job_def("whole_graph")
    assert job.execute_in_process(instance=house.instance, run_config=QUIET).success
    assert MADE == ["counts/c", "total"]


def test_a_backfill_of_many_partitions_is_one_run_with_a_version_each(house, page):
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = page.launch("counts", {}, tags=tags)
    assert result.success
    for partition in "abc":
        asked = dg.AssetRecordsFilter(dg.AssetKey("counts"), asset_partitions=[partition])
        newest = house.instance.fetch_materializations(asked, limit=1).records[0]
        told = newest.asset_materialization
        assert told.tags["dagster/data_version"] == house.store.ref("counts", partition).content
        assert told.metadata["metrics/numbers"].value == 5
    assert [page.shows()[key] for key in ALL[:4]] == ["fresh", "fresh", "fresh", "missing"]


def test_a_backfill_with_one_bad_partition_shows_the_good_ones(house, page):
    house.run("counts/a", "counts/b")
    (house.folder / "store" / "refs" / "default" / "counts" / "b").unlink()
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    result = page.launch("sums", {}, tags=tags)
    assert not result.success
    failure = result.failure_data_for_node("sums").error
    assert "sums/b is made from counts/b, which was never materialized" in str(failure)
    records = house.instance.fetch_materializations(dg.AssetKey("sums"), limit=9).records
    assert [record.partition_key for record in records] == ["a"]


def test_checks_can_be_run_alone(house, page):
    house.run("counts/a")
    MADE.clear()
    keys = {dg.AssetCheckKey(dg.AssetKey("counts"), check) for check in ("few_broken", FRESH)}
    job = page.definitions.resolve_implicit_global_asset_job_def()
    alone = job.get_subset(asset_selection=set(), asset_check_selection=keys)
    result = alone.execute_in_process(
        instance=house.instance, tags={"dagster/partition": "a"}, run_config=QUIET
    )
    assert result.success and MADE == []
    assert {e.check_name for e in result.get_asset_check_evaluations()} == {"few_broken", FRESH}
    assert not result.get_asset_materialization_events()


def test_the_job_verify_names_what_is_not_as_sealed(house, page):
    house.run("counts/a")
    job = page.definitions.resolve_job_def("verify")
    assert job.execute_in_process(instance=house.instance, run_config=QUIET).success
    [damaged] = (house.folder / "store" / "objects").rglob("counts.json")
    damaged.write_text("[7]")
    result = job.execute_in_process(
        instance=house.instance, run_config=QUIET, raise_on_error=False
    )  # fmt: skip
    failure = str(result.failure_data_for_node("verify_store").error)
    assert "1 artifacts are not as sealed" in failure
