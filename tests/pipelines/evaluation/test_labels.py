"""Claims: a source with too few labels is refused before anything is made, by what the generator
will film or by its labels.csv; one that cannot be reached is left to whoever reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.ingest import SourceConfig
from pipelines.evaluation.labels import enough_labels
from pipelines.node import Profile
from pipelines.nodes import GRAPH, PROFILES
from pipelines.settings import SettingError

DEMO = PROFILES["demo"]


def probing(labels: tuple[int, ...], **internet: Any) -> Profile:
    """DEMO with these budgets on the motion world alone."""
    section = replace(DEMO.probe_report, sources=("ssv2",), labels=labels)
    raw = replace(DEMO.raw_videos, internet=replace(DEMO.raw_videos.internet, **internet))
    return replace(DEMO, probe_report=section, raw_videos=raw)


@pytest.mark.parametrize("scale", sorted(PROFILES))
def test_every_scale_has_the_labels_that_its_probes_ask_for(scale: str) -> None:
    assert GRAPH["probe_report"].check is enough_labels
    enough_labels(PROFILES[scale])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ((16, 100_000), "asks for 100000 labelled clips of ssv2, which has"),
        ((4,), "asks for 4 labelled clips of ssv2, fewer than its 8 classes"),
    ],
)
def test_a_generated_world_with_too_few_labels_is_refused(labels, told) -> None:
    enough_labels(probing((16,)))
    with pytest.raises(SettingError, match=told):
        enough_labels(probing(labels))


def test_a_world_without_labels_is_refused() -> None:
    themes = DEMO.raw_videos.internet.themes
    silent = {**themes, "ssv2": replace(themes["ssv2"], labels=None)}
    with pytest.raises(SettingError, match="ssv2 cannot be probed: its videos have no labels"):
        enough_labels(probing((16,), themes=silent))
    with pytest.raises(SettingError, match="its videos have no labels"):
        enough_labels(probing((16,), counts={**DEMO.raw_videos.internet.counts, "ssv2": 0}))


def test_a_folder_is_judged_by_its_table_of_labels(tmp_path: Path) -> None:
    profile = probing((4, 6))
    sources = {**profile.raw_videos.sources, "ssv2": SourceConfig(location=str(tmp_path / "mine"))}
    profile = replace(profile, raw_videos=replace(profile.raw_videos, sources=sources))
    enough_labels(profile)  # not there: its ingest says so
    (tmp_path / "mine").mkdir()
    enough_labels(profile)  # nothing in it: likewise
    (tmp_path / "mine" / "0.mp4").touch()
    with pytest.raises(SettingError, match="ssv2 cannot be probed: its videos have no labels"):
        enough_labels(profile)

    def labelled(*rows: str) -> None:
        (tmp_path / "mine" / "labels.csv").write_text("\n".join(("path,label,split", *rows)))

    train = [f"{n}.mp4,{'ab'[n % 2]},train" for n in range(6)]
    labelled(*train, "x.mp4,a,validation")
    enough_labels(profile)
    labelled(*train[:5], "x.mp4,a,validation")
    with pytest.raises(SettingError, match="6 labelled clips of ssv2, which has 5 to train on"):
        enough_labels(profile)
