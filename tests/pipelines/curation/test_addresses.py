"""Claims: a list of addresses is a source, and so are ids in a pattern; what was fetched is never
fetched again, whatever recipe asks or whoever was killed; each item that a host fails at is one row
with its reason beside the good ones; only failures are tried again, and those that do not pass when
somebody says so; the ledger knows what became of each item, and since when."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.answers import FetchConfig
from pipelines.curation import ingest
from pipelines.curation.fetching import Fetcher
from pipelines.curation.ingest import RawVideosConfig, read_media
from pipelines.curation.source_config import SourceConfig
from pipelines.curation.sweep import Sweep, asked_again, swept
from pipelines.execution import ExecutionConfig
from pipelines.settings import SettingError
from pipelines.stage import Workspace, materialize, recipe_inputs
from storage.artifacts import Artifact, ArtifactStore
from storage.digests import digest_bytes
from storage.ledgers import Ledger
from storage.media import MediaError
from storage.takedowns import Takedown, add
from storage.video import encode
from tests.pipelines.builders import map_in_turn
from tests.pipelines.curation.builders import moving
from tests.pipelines.hosts import Host, endless, file, hang, part_of, serving, status

CLIPS = [encode(moving(12, seed), 10.0).data for seed in range(3)]
FETCH = FetchConfig(
    private=("127.0.0.1/32",), pause=0.01, silence=0.3, seconds=5.0, most_mb=1, tries=2
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as found:
        found.acts |= {f"/{i}.mp4": file(clip) for i, clip in enumerate(CLIPS)}
        yield found


class House:
    """A store with the ledger of one deployment."""

    def __init__(self, root: Path, location: str, **source: Any) -> None:
        self.root = root
        self.store = ArtifactStore(str(root / "store"), root / "cache")
        self.execution = ExecutionConfig(
            cache=root / "cache", takedowns=str(root / "store/takedowns/me.json"),
            ledger=str(root / "store/ledger/me"),
        )  # fmt: skip
        made = SourceConfig(location=location, **{"reader": "addresses", **source})
        self.config = RawVideosConfig(sources={"coin": made}, fetch=FETCH)

    def made(self) -> Artifact:
        return materialize(
            self.store, ingest.STAGE, self.config, {}, asset="raw_videos", partition="coin",
            execution=self.execution,
        ).artifact  # fmt: skip

    def asked(self) -> dict[str, Any]:
        found = recipe_inputs(ingest.STAGE, self.config, {}, "coin", self.execution)
        return dict(found["external_inputs"])

    @property
    def ledger(self) -> Ledger:
        return Ledger(str(self.execution.ledger))

    def states(self) -> dict[str, str]:
        return {item: row.last.state for item, row in self.ledger.rows("coin").items()}


def reasons(artifact: Artifact) -> dict[str, str]:
    rows = artifact.table("quarantine.parquet")
    assert len({row["item"] for row in rows}) == len(rows)
    return {row["item"]: row["reason"] for row in rows}


def labels(artifact: Artifact) -> dict[str, tuple[str | None, str | None]]:
    rows = artifact.table("videos.parquet")
    for row in rows:
        assert digest_bytes(read_media(artifact, row)) == row["sha256"]
    return {row["path"]: (row["label"], row["split"]) for row in rows}


def listed(root: Path, text: str, name: str = "list.csv") -> str:
    (root / name).write_text(text, encoding="utf-8")
    return str(root / name)


def test_a_list_is_fetched_once_and_several_files_at_a_time(host: Host, tmp_path: Path) -> None:
    host.acts |= {f"/{i}.mp4": file(clip, pause=0.2) for i, clip in enumerate(CLIPS)}
    digest = digest_bytes(CLIPS[0])
    house = House(tmp_path, listed(tmp_path, (
        "\ufeffaddress,id,label,split,sha256\n"
        f"{host.at}/0.mp4,first,spin,train,{digest}\n"
        f"{host.at}/1.mp4?token=secret,second,roll,validation,\n"
        f"{host.at}/2.mp4,third.mp4,,,\n"
        f"{host.at}/2.mp4,third.mp4,,,\n"
    )))  # fmt: skip
    made = house.made()
    assert labels(made) == {
        "first.mp4": ("spin", "train"), "second.mp4": ("roll", "validation"),
        "third.mp4": (None, None),
    }  # fmt: skip
    assert reasons(made) == {} and made.metrics["labels_matched"] == 2
    assert host.asked.total() == 3 and host.most_at_once == 3
    assert house.made().content == made.content and host.asked.total() == 3
    assert set(house.states().values()) == {"probed"}
    notes = [p.read_text() for p in (tmp_path / "store").rglob("*.json*")]
    assert len(notes) > 5 and not any("secret" in text for text in notes)
    assert not list((tmp_path / "cache").glob("fetching/*"))


def test_another_recipe_or_deployment_fetches_nothing_again(host: Host, tmp_path: Path) -> None:
    text = "".join(f"{host.at}/{i}.mp4\n" for i in range(2))
    house = House(tmp_path, listed(tmp_path, text, "list.txt"))
    house.made()
    listed(tmp_path, text + f"{host.at}/2.mp4\n", "list.txt")
    other = House(tmp_path, str(tmp_path / "list.txt"), accept_damaged=True)
    other.execution = ExecutionConfig(cache=tmp_path, ledger=str(tmp_path / "store/ledger/you"))
    at = host.at.removeprefix("http://")
    assert {*labels(other.made())} == {f"{at}/{i}.mp4" for i in range(3)}
    assert host.asked == {"/0.mp4": 1, "/1.mp4": 1, "/2.mp4": 1}


def test_each_failure_of_a_host_is_one_row_with_its_reason(host: Host, tmp_path: Path) -> None:
    digest, at = digest_bytes(CLIPS[0]), host.at
    with serving("127.0.0.2") as inner:
        inner.acts["/secret.mp4"] = file(CLIPS[2])
        host.acts |= {
            "/500.mp4": status(500), "/404.mp4": status(404), "/hang.mp4": hang(host),
            "/half.mp4": part_of(CLIPS[1][:999], len(CLIPS[1])),
            "/inwards.mp4": status(302, f"{inner.at}/secret.mp4"),
            "/text.mp4": file(b"This video was removed.\n"),
            "/more.mp4": part_of(CLIPS[1], 999), "/endless.mp4": endless(host),
            "/other.mp4": file(CLIPS[1]),
        }  # fmt: skip
        names = ["500", "404", "hang", "half", "inwards", "text", "more", "endless"]
        house = House(tmp_path, listed(tmp_path, (
            f"address,id,sha256\n{at}/0.mp4,good,{digest}\n{at}/other.mp4,other,{digest}\n"
            + "".join(f"{at}/{name}.mp4,{name},\n" for name in names)
            + f"ftp://example.org/a.mp4,ftp,\n{at}/1.mp4,digest,12ab\n"
            + f"{at}/0.mp4,twice,\n{at}/1.mp4,twice,\n{inner.at}/secret.mp4,private,\n"
        )))  # fmt: skip
        made = house.made()
        assert inner.asked == {}
    expected = {
        "500": r"answers HTTP 500 \(Internal Server Error\) \(2 times\)",
        "404": r"answers HTTP 404 \(Not Found\)",
        "hang": r"says nothing for 0\.3 s \(raw_videos\.fetch\.silence\) \(2 times\)",
        "half": r"breaks off \(2 times\)",
        "inwards": r"is redirected to what leads to 127\.0\.0\.2, which is private \(raw_videos.*",
        "private": r"leads to 127\.0\.0\.2, which is private \(raw_videos\.fetch\.private\)",
        "text": "not a video or image: it is a text file",
        "more": "not a video or image: .*",
        "endless": r"does not end after \d+ bytes: more than 1 MiB \(raw_videos.*",
        "other": r"has other bytes than the list says \(sha256 [0-9a-f]{12}, not [0-9a-f]{12}\)",
        "ftp": "its address is of ftp:; give one of http or https",
        "digest": "sha256 '12ab' is none; give 64 digits",
        "twice": r"list\.csv names it twice, as http://.*/0\.mp4 and as http://.*/1\.mp4; keep .*",
    }
    found = reasons(made)
    assert {*labels(made)} == {"good.mp4"}
    assert found.keys() == {f"{name}.mp4" for name in expected}
    for name, reason in expected.items():
        assert re.fullmatch(reason, found[f"{name}.mp4"]), found[f"{name}.mp4"]
    last = house.states()
    assert last["good.mp4"] == "probed" and last["404.mp4"] == "gone"
    assert set(last.values()) == {"probed", "gone", "quarantined"}
    assert house.made().content == made.content


def test_only_failures_are_tried_again_and_when_somebody_says_so(
    host: Host, tmp_path: Path
) -> None:
    host.acts |= {"/late.mp4": status(503), "/gone.mp4": status(410)}
    names = ["0", "late", "gone"]
    text = "".join(f"{host.at}/{name}.mp4\n" for name in names)
    house = House(tmp_path, listed(tmp_path, text, "list.txt"))
    house.made()
    host.asked.clear()
    before = house.asked()
    assert house.asked() == before and host.asked == {}  # who asks for the status fetches nothing
    host.acts |= {"/late.mp4": file(CLIPS[1]), "/gone.mp4": file(CLIPS[2])}
    assert asked_again("coin", house.ledger) == 2
    at = host.at.removeprefix("http://")
    changed = {path for path, content in house.asked().items() if content != before[path]}
    assert changed == {f"{at}/late.mp4", f"{at}/gone.mp4"}
    assert len(labels(house.made())) == 3 and host.asked == {"/late.mp4": 1, "/gone.mp4": 1}
    assert asked_again("coin", house.ledger) == 0


def test_what_passes_is_tried_again_by_the_next_recipe_and_the_rest_is_not(
    host: Host, tmp_path: Path
) -> None:
    host.acts |= {"/late.mp4": status(503), "/gone.mp4": status(410)}
    text = "".join(f"{host.at}/{name}.mp4\n" for name in ("late", "gone"))
    house = House(tmp_path, listed(tmp_path, text, "list.txt"))
    house.made()
    listed(tmp_path, text + f"{host.at}/0.mp4\n", "list.txt")
    host.acts["/late.mp4"] = file(CLIPS[1])
    host.asked.clear()
    assert len(labels(house.made())) == 2 and host.asked == {"/late.mp4": 1, "/0.mp4": 1}


def test_what_is_gone_from_its_host_stays_in_the_store(host: Host, tmp_path: Path) -> None:
    text = "".join(f"{host.at}/{i}.mp4\n" for i in range(3))
    house = House(tmp_path, listed(tmp_path, text, "list.txt"))
    made = house.made()
    host.acts |= {"/1.mp4": status(404), "/2.mp4": status(500)}
    assert swept(house, "coin", house.ledger) == Sweep(3, 1, 0, 1)  # type: ignore[arg-type]
    at = host.at.removeprefix("http://")
    row = house.ledger.rows("coin")[f"{at}/1.mp4"]
    assert (row.last.state, row.last.reason) == ("gone", "answers HTTP 404 (Not Found)")
    assert row.last.day == time.strftime("%Y-%m-%d", time.gmtime())
    assert house.made().content == made.content and len(labels(made)) == 3
    assert house.states()[f"{at}/1.mp4"] == "gone"
    host.acts["/1.mp4"] = file(CLIPS[1])
    assert swept(house, "coin", house.ledger) == Sweep(3, 0, 1, 1)  # type: ignore[arg-type]
    assert house.states()[f"{at}/1.mp4"] == "probed"


@pytest.fixture(autouse=True)
def profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A house stands in for a profile: it has a section raw_videos."""
    monkeypatch.setattr(House, "raw_videos", property(lambda house: house.config), raising=False)


def test_what_was_taken_down_is_not_needed_any_more(host: Host, tmp_path: Path) -> None:
    house = House(tmp_path, listed(tmp_path, f"{host.at}/0.mp4\n{host.at}/1.mp4\n", "list.txt"))
    house.made()
    digest = digest_bytes(CLIPS[0])
    add(str(house.execution.takedowns), Takedown(digest, "withdrawn", "2026-01-01"))
    (tmp_path / f"store/fetched/{digest[:2]}/{digest}").unlink()
    host.acts["/0.mp4"] = status(404)
    made, at = house.made(), host.at.removeprefix("http://")
    assert reasons(made) == {f"{at}/0.mp4": "taken down: withdrawn"} and len(labels(made)) == 1


def test_what_was_taken_down_is_not_kept_under_another_address(host: Host, tmp_path: Path) -> None:
    house = House(tmp_path, listed(tmp_path, f"{host.at}/0.mp4\n{host.at}/1.mp4\n", "list.txt"))
    digest = digest_bytes(CLIPS[0])
    add(str(house.execution.takedowns), Takedown(digest, "withdrawn", "2026-01-01"))
    made, at = house.made(), host.at.removeprefix("http://")
    assert reasons(made) == {f"{at}/0.mp4": "taken down: withdrawn"} and len(labels(made)) == 1
    assert not (tmp_path / f"store/fetched/{digest[:2]}/{digest}").exists()
    host.asked.clear()
    house.made()
    assert not host.asked


def test_bytes_that_are_lost_from_the_store_are_fetched_again(host: Host, tmp_path: Path) -> None:
    house = House(tmp_path, listed(tmp_path, f"{host.at}/0.mp4\n", "list.txt"))
    made = house.made()
    [row] = made.table("videos.parquet")
    digest = row["sha256"]
    (tmp_path / f"store/fetched/{digest[:2]}/{digest}").unlink()
    with pytest.raises(MediaError, match=r"0\.mp4: what was fetched is gone from .*run raw_videos"):
        read_media(made, row)
    house.made()
    assert read_media(made, row) == CLIPS[0] and host.asked == {"/0.mp4": 2}


def test_ids_of_annotations_beside_an_archive(host: Host, tmp_path: Path) -> None:
    host.acts |= {"/v/aa_000001_000011.mp4": file(CLIPS[0]), "/v/b-b.mp4": file(CLIPS[1])}
    notes = tmp_path / "kinetics"
    notes.mkdir()
    listed(notes, (
        "label,youtube_id,time_start,time_end,split\nspin,aa,1,11,train\nroll,cc,1,11,validate\n"
    ), "kinetics_train.csv")  # fmt: skip
    house = House(
        tmp_path, f"{host.at}/v/{{id}}.mp4", annotations="kinetics", annotations_at=str(notes)
    )
    made = house.made()
    assert labels(made) == {"aa_000001_000011.mp4": ("spin", "train")}
    assert reasons(made) == {"cc_000001_000011.mp4": "answers HTTP 404 (Not Found)"}
    ids = tmp_path / "ids"
    ids.mkdir()
    listed(ids, "video_id\nb-b\n", "yttemporal1b_ids_train.csv")
    (tmp_path / "yt").mkdir()
    house = House(
        tmp_path / "yt", f"{host.at}/v/{{id}}.mp4?key=1", annotations="yt-temporal-1b",
        annotations_at=str(ids),
    )  # fmt: skip
    assert labels(house.made()) == {"b-b.mp4": (None, "train")}


def test_a_killed_run_goes_on_with_what_it_has(host: Host, tmp_path: Path) -> None:
    host.acts |= {"/1.mp4": hang(host)}
    code = """
import sys, threading
from pathlib import Path
from pipelines.answers import FetchConfig
from pipelines.curation.addresses import Wanted
from pipelines.curation.fetching import Fetcher
from storage.ledgers import Ledger
at, root = sys.argv[1:]
config = FetchConfig(private=("127.0.0.1/32",))
fetcher = Fetcher(config, root, Ledger(root + "/ledger"), Path(root))
fetcher.fetch("files", "coin", {f"{i}": Wanted(f"{at}/{i}.mp4") for i in range(3)})
"""
    command = [sys.executable, "-c", code, host.at, str(tmp_path)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("results/*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    host.acts["/1.mp4"] = file(CLIPS[1])
    host.asked.clear()
    from pipelines.curation.addresses import Wanted

    ledger = Ledger(str(tmp_path / "ledger"))
    fetcher = Fetcher(FETCH, str(tmp_path), ledger, tmp_path)
    fetcher.fetch("files", "coin", {f"{i}": Wanted(f"{host.at}/{i}.mp4") for i in range(3)})
    assert host.asked == {"/1.mp4": 1}
    assert {row.last.state for row in ledger.rows("coin").values()} == {"fetched"}


def test_a_store_in_a_bucket_keeps_what_was_fetched(
    host: Host, tmp_path: Path, s3_store: str
) -> None:
    house = House(tmp_path, listed(tmp_path, f"{host.at}/0.mp4\n", "list.txt"))
    house.store = ArtifactStore(s3_store, tmp_path / "cache")
    house.execution = ExecutionConfig(cache=tmp_path / "cache", ledger=f"{s3_store}/ledger/me")
    assert len(labels(house.made())) == 1 and len(labels(house.made())) == 1
    assert host.asked == {"/0.mp4": 1} and set(house.states().values()) == {"probed"}


def test_files_of_a_folder_are_in_the_ledger_too(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, clip in enumerate(CLIPS):
        (folder / f"{i}.mp4").write_bytes(clip)
    (folder / "text.mp4").write_text("no video")
    house = House(tmp_path, str(folder), reader="files")
    house.made()
    (folder / "1.mp4").unlink()
    assert swept(house, "coin", house.ledger) == Sweep(4, 1, 0, 0)  # type: ignore[arg-type]
    known = {"0.mp4": "probed", "1.mp4": "gone", "2.mp4": "probed", "text.mp4": "quarantined"}
    assert house.states() == known
    (folder / "2.mp4").unlink()
    (folder / "1.mp4").write_bytes(CLIPS[1])
    (folder / "text.mp4").write_bytes(CLIPS[2])
    house.made()
    assert house.states() == known | {"1.mp4": "probed", "2.mp4": "gone", "text.mp4": "probed"}
    row = house.ledger.rows("coin")["2.mp4"]
    assert row.last.reason == "is no longer in its source" and "found" in row.events


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("adress,id\nx,y\n", r"list\.csv has no column address; did you mean adress\?; give addr"),
        ("address,split\nhttp://a.org/b,test\n", r"list\.csv line 2: split 'test' is not one of"),
        ("address,id\n,y\n", r"list\.csv line 2: address is empty; give one of http or https"),
        ("address\n", r"list\.csv names no address; put one a line in it"),
        ("", r"list\.csv names no address"),
    ],
)
def test_a_list_that_is_wrong_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    house = House(tmp_path, listed(tmp_path, text))
    with pytest.raises(MediaError, match=told):
        house.made()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"location": "https://a.org/x.mp4"}, 'that is an address; set reader = "addresses"'),
        ({"location": "ftp://a.org"}, "ftp:// is unknown; give a folder or s3://bucket/prefix"),
        ({"location": "/videos", "reader": "addresses"}, "is no list of addresses; give a file"),
        ({"location": "ftp://a/l.csv", "reader": "addresses"}, "is no list of addresses; give"),
        ({"location": "http://a.org/x", "reader": "addresses"}, "has no {id} in it; say where"),
        ({"location": "http://a.org/{id}", "reader": "addresses"}, "which ids? set annotations_at"),
    ],
)
def test_a_location_that_does_not_fit_is_one_line(named: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=re.escape(f'location = "{named["location"]}": {told}')):
        SourceConfig(**named)
