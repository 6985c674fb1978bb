"""What an asset tells its page: digests, numbers, pictures, checks; and that it remembers answers.

- a materialisation carries content as data version, stage version as code version, and both
  digests, the manifest's place, the metrics as plots and the pictures beside it;
- the launchpad's values reach the stage, and how it is run reaches the record, not the recipe;
- an answer that was given before is found again, also when another question was asked in between;
- two contents under one recipe turn the determinism check red.
"""

from __future__ import annotations

import dataclasses

import dagster as dg
import pytest

from assets.definitions import asset, build
from assets.definitions.asset import asset_definition
from assets.deployment import deployment
from pipelines.graph import upstream_keys
from storage.artifacts import ArtifactError
from storage.digests import digest_json
from storage.places import write_file
from tests.assets.conftest import GRAPH


@pytest.fixture
def launch(house):
    """Launch one asset as the page does: launch("counts", "a", {"upto": 3})."""

    def launched(asset, partition=None, config=None, execution=None, ok=True):
        job = build(house.deployed(*house.settings)).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=house.instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=partition,
            run_config={
                "ops": {asset: {"config": config or {}}},
                "resources": {"execution": {"config": execution or {}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
        assert result.success is ok
        return result

    return launched


def materialized(result) -> dg.AssetMaterialization:
    [event] = result.get_asset_materialization_events()
    return event.step_materialization_data.materialization


def test_a_materialisation_tells_digests_numbers_and_pictures(launch, house):
    told = materialized(launch("counts", "a"))
    manifest = house.store.ref("counts", "a")
    assert told.tags["dagster/data_version"] == manifest.content
    values = {name: value.value for name, value in told.metadata.items()}
    assert (values["recipe"], values["content"]) == (manifest.recipe, manifest.content)
    assert values["manifest"].endswith(f"/{manifest.key}")
    assert (values["metrics/numbers"], values["metrics/nested.broken"]) == (5, 1)
    assert "metrics/listed" not in values
    assert values["picture/sheet"].startswith("![sheet](data:image/png;base64,")


def test_the_launchpads_values_reach_the_stage(launch, house):
    launch("counts", "a", {"upto": 3})
    artifact = house.store.open(house.store.ref("counts", "a"))
    assert artifact.json("counts.json") == [0, 1, 2]
    _, told, _ = house.run("counts/a")
    assert "counts/a is stale: config.upto: 3 -> 5" in told


def test_what_moved_is_told_with_its_reason(launch, house):
    first = materialized(launch("counts", "a")).metadata
    assert not [name for name in first if name.startswith("moved/")]
    told = materialized(launch("counts", "a", {"upto": 7})).metadata
    assert told["moved/why"].value == "config.upto: 5 -> 7"
    again = materialized(launch("counts", "a", {"upto": 7})).metadata
    assert "moved/why" not in again, "it shows what it showed before"


def test_how_it_is_run_is_recorded_and_never_asked(launch, house):
    launch("counts", "a", execution={"workers": 1})
    first = house.store.ref("counts", "a")
    result = launch("counts", "a", execution={"workers": 7, "loader_threads": 3, "loader_depth": 4})
    assert materialized(result).metadata["reused"].value is True
    assert first.record["workers"] == 1
    assert house.store.ref("counts", "a") == first


def test_how_it_is_run_has_ranges_on_the_page_too(launch):
    with pytest.raises(dg.DagsterInvalidConfigError, match="must be at least 1"):
        launch("counts", "a", execution={"workers": 0})
    with pytest.raises(dg.DagsterInvalidConfigError, match="must be at least 1"):
        launch("counts", "a", execution={"loader_depth": 0})


def test_an_answer_that_was_given_before_is_found_again(launch, house):
    first = materialized(launch("counts", "a"))
    launch("counts", "a", {"upto": 9})
    again = materialized(launch("counts", "a"))
    assert again.metadata["reused"].value is True
    assert again.tags["dagster/data_version"] == first.tags["dagster/data_version"]


def test_a_value_that_the_stage_refuses_fails_the_run_with_its_reason(launch):
    result = launch("counts", "a", {"upto": 0}, ok=False)
    assert "upto = 0: count at least to 1" in why(result, "counts")


def why(result, asset: str) -> str:
    """The error that failed an asset, with what caused it."""
    error = result.failure_data_for_node(asset).error
    return f"{error} {error.cause}"


def checks(result) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def test_checks_are_per_partition_and_a_gate_that_fails_is_red(launch, house):
    assert checks(launch("counts", "a")) == {"few_broken": True, "deterministic": True}
    result = launch("counts", "b", {"broken": 3}, ok=False)
    assert checks(result) == {"few_broken": False, "deterministic": True}
    refused = launch("sums", "b", ok=False)
    assert "does not pass few_broken" in why(refused, "sums")
    launch("sums", "a")


def test_a_gate_that_only_reports_is_a_warning(launch, house):
    house.settings = ("counts.lenient=b",)
    result = launch("counts", "b", {"broken": 3, "lenient": ["b"]})
    severity = {e.check_name: e.severity for e in result.get_asset_check_evaluations()}
    assert checks(result)["few_broken"] is False
    assert severity["few_broken"] == dg.AssetCheckSeverity.WARN
    launch("sums", "b")


def test_two_contents_under_one_recipe_are_shown(launch, house):
    launch("counts", "a")
    manifest = house.store.ref("counts", "a")
    # What a second build of a stage that is not deterministic would leave: the same question,
    # another answer.
    other = dataclasses.replace(manifest, files=(), content=digest_json([]))
    write_file(house.folder / "store" / other.key, other.to_json())
    assert checks(launch("counts", "a"))["deterministic"] is False


def test_what_is_read_is_asked_with_the_launchpads_values(tmp_path, monkeypatch):
    """What a partition is made from may depend on its own section, and the launchpad's counts."""
    asked = []

    def refuse(graph, node, partition, profile, store):
        asked.append((profile.probe_report.labels, upstream_keys(graph, node, partition, profile)))
        raise ArtifactError("that is all this test wants to know")

    monkeypatch.setattr(asset, "open_inputs", refuse)
    deployed = deployment("demo", environment={"VJEPA2_HOME": str(tmp_path)})
    build(deployed).resolve_implicit_global_asset_job_def().execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        asset_selection=[dg.AssetKey("probe_report")],
        partition_key="kinetics",
        run_config={"ops": {"probe_report": {"config": {"labels": [8, 16]}}}},
        raise_on_error=False,
    )
    assert asked == [((8, 16), (("cooled_encoder", None), ("clip_shards", "kinetics")))]


def test_an_asset_without_a_description_is_refused(house):
    node = dataclasses.replace(GRAPH["total"], description="")
    with pytest.raises(TypeError, match="asset total has no description"):
        asset_definition(node, house.deployed())
