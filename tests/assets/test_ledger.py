"""Claims: `vjepa2 run` fetches a list of addresses, and `vjepa2 ledger` says what became of each
file, sweeps for what is gone and has failures tried again; asking writes nothing; a source that
there is not is one line with the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets import cli
from storage.video import encode
from tests.pipelines.curation.builders import moving
from tests.pipelines.hosts import file, serving, status
from tests.tiny import environment, vjepa2


def test_a_list_is_fetched_told_swept_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as host:
        for name in ("a", "b"):
            host.acts[f"/{name}.mp4"] = file(encode(moving(12, ord(name)), 10.0).data)
        names = ["a", "b", "late"]
        host.acts["/late.mp4"] = status(503)
        addresses = "".join(f"{host.at}/{name}.mp4,{name}\n" for name in names)
        (tmp_path / "list.csv").write_text(f"address,id\n{addresses}")
        settings = [
            f"raw_videos.sources.coin.location={tmp_path / 'list.csv'}",
            "raw_videos.sources.coin.reader=addresses", "raw_videos.fetch.private=127.0.0.1/32",
            "raw_videos.fetch.pause=0.01",
        ]  # fmt: skip
        told = vjepa2("run", "raw_videos/coin", home=tmp_path / "home", settings=settings)
        assert "coin files to fetch 3/3" in told and "/s, ends " in told
        assert "1 x raw_videos: answers HTTP 503 (Service Unavailable) (4 times)" in told
        for name, value in environment(tmp_path / "home", settings).items():
            monkeypatch.setenv(name, value)

        def asked(*words: str) -> str:
            assert cli.main(words) == 0
            return capsys.readouterr().out

        there = sorted((tmp_path / "home").rglob("*"))
        assert "fresh    raw_videos/coin" in asked("status")
        assert "coin: 2 probed, 1 quarantined\n" in asked("ledger")
        assert "yt1b: generated, has no ledger\n" in asked("ledger")
        each = asked("ledger", "coin", "--failed").splitlines()
        assert len(each) == 2 and each[0].startswith("quarantined since 2")
        assert each[0].endswith("late.mp4: answers HTTP 503 (Service Unavailable) (4 times)")
        assert sorted((tmp_path / "home").rglob("*")) == there
        host.acts["/b.mp4"] = status(410)
        swept = asked("ledger", "--sweep")
        assert swept == "coin: 3 asked for, 1 newly gone, 0 back, 1 without an answer\n"
        assert "b.mp4: answers HTTP 410 (Gone)" in asked("ledger", "coin")
        assert "coin: 1 to be tried again by `vjepa2 run" in asked("ledger", "coin", "--retry")
        assert "stale    raw_videos/coin: external_inputs.late.mp4" in asked("status")
    with pytest.raises(SystemExit):
        cli.main(["ledger", "cion"])
    assert capsys.readouterr().err == "vjepa2: no source cion; did you mean coin?\n"
