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

from assets.definitions import body, build, tables
from assets.definitions.asset import asset_definition
from assets.deployment import deployment
from pipelines.graph import upstream_keys
from storage.artifacts import ArtifactError
from storage.digests import digest_json
from storage.places import PlaceError, UnreachableError, write_file
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
    assert checks(launch("counts", "a")) == {
        "few_broken": True,
        "deterministic": True,
        "fresh": True,
    }
    result = launch("counts", "b", {"broken": 3}, ok=False)
    assert checks(result) == {"few_broken": False, "deterministic": True, "fresh": False}
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

    monkeypatch.setattr(body, "open_inputs", refuse)
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


def test_what_reads_them_all_refuses_partitions_made_under_other_settings(launch, house):
    for partition in "ab":
        launch("counts", partition)
        launch("sums", partition)
    launch("total")
    launch("counts", "a", {"upto": 3})
    launch("sums", "a")
    refused = launch("total", ok=False)
    told = "would mix partitions that were made under different settings: counts/"
    assert told in why(refused, "total")
    assert "counts/a with config.upto 3, counts/b with 5" in why(refused, "total")
    launch("counts", "b", {"upto": 3})
    launch("sums", "b")
    launch("total")


def test_a_setting_of_ones_own_partition_is_no_mixture(launch, house):
    house.settings = ("sums.weights.a=7",)
    for partition in "ab":
        launch("counts", partition)
        launch("sums", partition)
    launch("total")


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(launch, house, monkeypatch):
    real, asked = body.open_inputs, []

    def lost(error, times):
        def opened(*arguments):
            asked.append(arguments)
            if len(asked) <= times:
                raise error
            return real(*arguments)

        asked.clear()
        return opened

    monkeypatch.setattr(body, "WAIT", 0)
    monkeypatch.setattr(body, "open_inputs", lost(UnreachableError("bucket: silence"), 2))
    launch("counts", "a")
    assert len(asked) == 3
    monkeypatch.setattr(body, "open_inputs", lost(UnreachableError("bucket: silence"), 9))
    assert "bucket: silence" in why(launch("counts", "b", ok=False), "counts")
    assert len(asked) == 3
    monkeypatch.setattr(body, "open_inputs", lost(PlaceError("bucket: no such key"), 9))
    assert "no such key" in why(launch("counts", "b", ok=False), "counts")
    assert len(asked) == 1


def test_a_page_shows_the_columns_of_each_table_and_where_they_are_from(launch):
    told = materialized(launch("counts", "a")).metadata
    columns = told["dagster/column_schema"].value.columns
    assert [(c.name, c.type) for c in columns] == [
        ("item", "string"), ("stage", "string"), ("reason", "string"),
    ]  # fmt: skip
    assert told["dagster/column_lineage"].value.deps_by_column == {}


def test_a_column_is_from_the_upstream_that_has_one_of_its_name():
    known = {
        "scenes": {"scenes.parquet": {"scene": "string", "start": "double"}},
        "clusters": {"assignments.parquet": {"scene": "string", "cluster": "int32"}},
    }
    origins = dict(tables._origins({"scene": "string", "cluster": "int32", "kept": "bool"}, known))
    assert {c: [dep.asset_key.to_user_string() for dep in deps] for c, deps in origins.items()} == {
        "scene": ["scenes", "clusters"], "cluster": ["clusters"],
    }  # fmt: skip
