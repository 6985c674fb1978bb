"""The same graph on a user's own files: real clips, odd containers, broken files. Claims:

- a folder of them as the YT1B source goes through curation and shards into a short pretraining run;
- every file is a row of `raw_videos` or a quarantined row with its reason, none is lost;
- every file that was broken on purpose is quarantined or known to lack frames.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage.artifacts import ArtifactStore
from tests.tiny import TINY, vjepa2

FOLDERS = ("videos", "odd", "corrupt_derived", "multishot_real")


@pytest.fixture(scope="module")
def real_house(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the folder of real files, the home in which an encoder was trained on them)."""
    folder, home = tmp_path_factory.mktemp("my-videos"), tmp_path_factory.mktemp("home")
    for name in FOLDERS:
        shutil.copytree(real_data / name, folder / name)
    where = f"raw_videos.sources.yt1b.location={folder}"
    vjepa2("run", "encoder", "--set", where, home=home, settings=(*TINY, "clusters.clusters=24"))
    return folder, home


def test_no_file_is_lost(real_house: tuple[Path, Path]) -> None:
    folder, home = real_house
    store = ArtifactStore(str(home / "store"))
    kept: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for bucket in ("yt1b-00", "yt1b-01"):
        manifest = store.ref("raw_videos", bucket)
        assert manifest is not None
        made = store.open(manifest)
        kept |= {row["path"]: row["video_id"] for row in made.table("videos.parquet")}
        reasons |= {r["item"]: r["reason"] for r in made.table("quarantine.parquet")}
    there = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".json"
    }
    assert there <= set(kept) | set(reasons)
    assert not set(kept) & set(reasons)
    assert all(reason.strip() for reason in reasons.values())
    for name in ("empty.mp4", "html_error_page.mp4", "head_cut_friday.mp4"):
        assert f"corrupt_derived/{name}" in reasons
    assert len(kept) > 60


def test_an_encoder_was_trained_on_them(real_house: tuple[Path, Path]) -> None:
    _, home = real_house
    store = ArtifactStore(str(home / "store"))
    mixture, encoder = store.ref("videomix22m"), store.ref("encoder")
    assert mixture is not None and encoder is not None
    rows = store.open(mixture).table("index.parquet")
    assert any(row["source"] == "yt1b" for row in rows)
    log = store.open(encoder).table("log.parquet")
    assert all(0 < row["loss"] < 10 for row in log)
