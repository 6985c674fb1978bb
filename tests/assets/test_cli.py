"""What the command line promises.

- `--help` answers at once and teaches: every command, every asset, examples that run;
- whatever a person gets wrong is one line on stderr with what to write instead, and exit code 2;
- `status` says what is fresh, stale or missing, and why; `lineage` and `verify` find what was made;
- nothing is told of a secret.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assets import cli
from assets.cli import commands
from assets.cli.audit import _refuse_several
from assets.names import remember
from pipelines.nodes import GRAPH
from storage.artifacts import ArtifactError, ArtifactStore
from storage.digests import digest_json
from storage.errors import InputError
from tests.assets import conftest

ROOT = Path(__file__).resolve().parent.parent.parent
GRAPH_OF_THE_HOUSE = conftest.__name__
REAL_ASSETS = list(GRAPH.by_name)


@pytest.fixture
def ask(house, monkeypatch, capsys):
    """Run the command line in the tiny house: ask("status") -> (exit code, stdout, stderr)."""
    monkeypatch.setenv("VJEPA2_STORE", str(house.folder / "store"))
    monkeypatch.setenv("VJEPA2_HOME", str(house.folder / "home"))
    monkeypatch.setenv("VJEPA2_PROFILE", "tiny")
    monkeypatch.setenv("VJEPA2_DEPLOYMENT", "default")
    monkeypatch.setenv("VJEPA2_GRAPH", f"{GRAPH_OF_THE_HOUSE}:GRAPH")
    monkeypatch.delenv("VJEPA2_SET", raising=False)

    def asked(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main(words)
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return asked


def refused(answer: tuple[int, str, str]) -> str:
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("vjepa2: ") and err.count("\n") == 1
    return err.removeprefix("vjepa2: ").rstrip("\n")


def test_help_teaches():
    command = [sys.executable, "-m", "assets.cli", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for word in (
        "run",
        "status",
        "lineage",
        "who-saw",
        "takedown",
        "verify",
        "keys",
        "export",
        "clean",
        "ui",
        "settings",
        "--set",
        *REAL_ASSETS,
    ):
        assert word in told
    variables = ("PROFILE", "STORE", "SET", "HOME", "GRAPH", "DEPLOYMENT", "CACHE")
    assert all(f"VJEPA2_{name}" in told for name in variables)


def test_help_needs_no_heavy_library():
    script = (
        "import sys, assets.cli; assets.cli.parser().format_help();"
        "print([m for m in ('dagster', 'torch', 'ray', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_help_answers_at_once_for_it_imports_nothing_but_the_command_line():
    script = (
        "import sys; before = set(sys.modules);"
        "import assets.cli; assets.cli.parser().format_help();"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(told.stdout.split()) - sys.stdlib_module_names == {"assets"}


def run_and_tell_modules(home, *words):
    """The last line on stderr of a command, and which heavy libraries it imported."""
    script = (
        "import sys; from assets.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*({'torch', 'numpy', 'pydantic', 'dagster', 'ray'} & set(sys.modules)))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VJEPA2_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT, env=kept | {"VJEPA2_HOME": str(home)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.strip().splitlines()[-1], set(done.stdout.split())


def test_a_mistyped_asset_is_told_before_anything_heavy_is_imported_once_the_names_are_known(
    tmp_path,
):
    remember(tuple(GRAPH.by_name), {"VJEPA2_HOME": str(tmp_path)})
    code, told, loaded = run_and_tell_modules(tmp_path, "run", "encodr")
    assert (code, loaded) == (2, set())
    assert told == "vjepa2: encodr: no such asset; did you mean encoder?"
    # What was noted of other sources says nothing, and the graph itself is asked.
    noted = tmp_path / "cache" / "assets.json"
    noted.write_text(noted.read_text().replace('"encoder"', '"encodr"'))
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"sources": "others"}))
    code, told, loaded = run_and_tell_modules(tmp_path, "run", "encodr")
    assert code == 2 and "no such asset; did you mean encoder?" in told and "numpy" in loaded


def test_every_command_has_its_own_help(ask):
    for command in (
        "run",
        "status",
        "lineage",
        "who-saw",
        "takedown",
        "cost",
        "verify",
        "keys",
        "clean",
        "ui",
        "settings",
    ):
        code, out, _ = ask(command, "--help")
        assert code == 0
        assert "--profile" in out and "--set" in out and "--store" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["walk"], "invalid choice: 'walk'"),
        ([], "required: command"),
        (["status", "--profile", "dmeo"], "--profile dmeo: no such profile; did you mean demo?"),
        (
            ["status", "--set", "sums.wieghts.a=1"],
            "--set sums.wieghts: no such setting; did you mean weights?",
        ),
        (
            ["status", "--set", "counts.upto=many"],
            "--set counts.upto=many: expected a whole number",
        ),
        (["status", "--set", "counts.upto=0"], "--set counts: upto = 0: count at least to 1"),
        (["run", "cuonts"], "cuonts: no such asset; did you mean counts?"),
        (["run", "sums/q"], "sums/q: no such partition of sums; choose from a, b"),
        (["lineage", "totl"], "totl: no asset, no file, no digest; did you mean total?"),
        (["lineage", "total"], "total was never materialized: run `vjepa2 run total`"),
        (
            ["lineage", "0123abcd"],
            "no artifact, recipe or file of this store has a digest 0123abcd",
        ),
        (["who-saw", "a.mp4"], "list 'a.mp4'; give a video id, a sha256"),
        (["takedown", "a.mp4", "--reason", "r"], "list 'a.mp4'; give a video id, a sha256"),
        (["cost", "--videos", "9"], "shows no videos to take rates from: run `vjepa2 run`"),
        (["cost", "--videos", "9", "--mean-seconds", "0"], "'0'; give one from 0 to 1e6"),
        (["takedown", "a.mp4"], "the following arguments are required: --reason"),
        (["status", "--store", "gs://bucket"], "store 'gs://bucket': unknown kind"),
        (["run", "--store", "/proc/none/store"], "store /proc/none/store: cannot be written"),
        (["clean", "--days", "-1"], "argument --days"),
        (["ui", "--port", "many"], "argument --port: invalid int value"),
        (["ui", "--port", "99999"], "'99999'; give one from 1 to 65535"),
        (["status", "--store", "~nosuchuser/x"], "store '~nosuchuser/x': Could not determine home"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(ask, words, message):
    assert message in refused(ask(*words))


def test_a_stage_that_breaks_leaves_its_traceback_and_what_was_made_stays(ask):
    code, _, err = ask("run", "total", "--set", "total.fails=true")
    assert code == 1
    *traceback, line = err.splitlines()
    assert line.startswith("vjepa2: total: asked to fail (ValueError); the traceback above is also")
    assert (
        traceback[0].startswith("Traceback") and traceback[-1] == "ValueError: total: asked to fail"
    )
    assert "fresh    sums (a, b)" in ask("status", "--set", "total.fails=true")[1]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "{tmp}/nowhere",
            "raw_videos/coin: {tmp}/nowhere: does not exist; give a folder of videos",
        ),
        ("{tmp}", "raw_videos/coin: {tmp}: no files there; put videos in it"),
    ],
)
def test_what_a_person_can_cure_in_the_data_is_one_line_too(
    tmp_path, monkeypatch, capsys, location, message
):
    """The real graph: no traceback, no class names, exit code 2."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("VJEPA2_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VJEPA2_STORE", raising=False)
    place = location.format(tmp=tmp_path / "data")
    with pytest.raises(SystemExit) as left:
        cli.main(["run", "raw_videos/coin", "--set", f"raw_videos.sources.coin.location={place}"])
    err = capsys.readouterr().err
    assert left.value.code == 2
    assert message.format(tmp=tmp_path / "data") in err
    assert "Error" not in err and "traceback" not in err


def test_a_source_that_is_gone_is_one_line_when_it_had_been_made_before(
    tmp_path, monkeypatch, capsys
):
    """Asking what is fresh looks at the folder, before any stage runs."""
    monkeypatch.setenv("VJEPA2_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VJEPA2_STORE", raising=False)
    store = ArtifactStore(str(tmp_path / "home" / "store"))
    asked = {"stage": "raw_videos"}
    draft = {
        "asset": "raw_videos", "partition": "coin", "recipe_inputs": asked,
        "recipe": digest_json(asked), "parents": {}, "record": {},
    }  # fmt: skip
    with store.work(draft["recipe"]) as work:
        (work / "payload").mkdir()
        store.set_ref("raw_videos", "coin", store.seal(work, draft))
    for words in (["status"], ["run", "raw_videos/coin"]):
        with pytest.raises(SystemExit) as left:
            cli.main([*words, "--set", f"raw_videos.sources.coin.location={tmp_path}/gone"])
        err = capsys.readouterr().err
        assert left.value.code == 2
        assert err.startswith(f"vjepa2: {tmp_path}/gone: does not exist; give a folder of videos")
        assert err.count("\n") == 1


def test_what_a_person_can_cure_is_one_line_and_a_bug_leaves_its_traceback(ask, monkeypatch):
    """UserError alone decides, wherever it is raised."""

    def fails(error: Exception):
        def command(asked, deployed):
            raise error

        monkeypatch.setattr(commands, "_status", command)
        return ask("status")

    assert refused(fails(InputError("clips: none; add some"))) == "clips: none; add some"
    for bug in (ValueError("no such thing"), OSError("odd"), KeyError("x")):
        with pytest.raises(type(bug)):
            fails(bug)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SET", "counts.upto='3", "VJEPA2_SET=counts.upto='3: No closing quotation; quote each"),
        ("HOME", "~nosuchuser/x", "VJEPA2_HOME '~nosuchuser/x': Could not determine home"),
        ("GRAPH", "nowhere", "VJEPA2_GRAPH=nowhere: is not of that form; give module:NAME"),
        ("GRAPH", "nowhere.at:all", "VJEPA2_GRAPH=nowhere.at:all: No module named 'nowhere'"),
        ("GRAPH", "pipelines.node:GRAPHS", "pipelines.node has no GRAPHS; give module:NAME"),
        ("GRAPH", "pipelines.node:SCALES", "is no Graph; give module:NAME"),
    ],
)
def test_a_variable_that_cannot_be_read_is_one_line(ask, monkeypatch, name, value, message):
    monkeypatch.setenv(f"VJEPA2_{name}", value)
    assert message in refused(ask("status"))


def test_a_home_that_cannot_be_written_is_one_line(ask, monkeypatch):
    monkeypatch.setenv("VJEPA2_HOME", "/proc/none/home")
    assert "home /proc/none/home: cannot be written" in refused(ask("run", "total"))


def test_a_gate_that_says_no_is_one_line_and_exit_code_1(ask):
    code, _, err = ask("run", "sums/a", "--set", "counts.broken=3")
    assert code == 1
    assert err.count("\n") == 1
    assert "counts/a does not pass few_broken: 3 set aside, at most 2" in err


def test_a_run_ends_in_a_summary(ask, house):
    code, out, err = ask("run")
    assert (code, err) == (0, "")
    assert f"content {house.store.ref('total').content[:12]}" in out
    assert "3 x counts: odd one out (e.g. 0)" in out
    assert "vjepa2 ui" in out
    code, out, _ = ask("run")
    assert code == 0
    assert "all 6 artifacts are fresh: nothing to recompute" in out


def test_status_says_why(ask, house):
    assert "missing  counts (a, b, c): never materialized" in ask("status")[1]
    house.run()
    assert ask("status")[1].startswith(
        "fresh    counts (a, b, c)\nfresh    sums (a, b)\nfresh    total\n"
    )
    _, out, _ = ask("status", "--set", "sums.weights.b=7")
    assert "fresh    sums/a\n" in out
    assert "stale    sums/b: config.weights.b: 2.0 -> 7.0\n" in out
    assert "stale    total: upstream sums/b is stale\n" in out
    assert "4 fresh, 2 stale, 0 missing" in out


def test_lineage_walks_back_from_an_asset_a_digest_or_a_file(ask, house):
    house.run()
    total = house.store.ref("total")
    _, by_name, _ = ask("lineage", "total")
    for name in ("counts/a", "counts/b", "sums/a", "sums/b"):
        assert name in by_name
    assert "counts/c" not in by_name
    assert f"content   {total.content}" in by_name
    assert "asked     label = total" in by_name
    _, by_digest, _ = ask("lineage", total.content[:10])
    assert by_digest.splitlines()[0] == f"{total.content[:10]} is the content of total"
    copy = house.folder / "elsewhere.json"
    copy.write_bytes((house.store.open(total).file("total.json")).read_bytes())
    _, by_file, _ = ask("lineage", str(copy))
    assert by_file.splitlines()[0] == f"{copy} is total.json of total"
    assert by_file.splitlines()[1:] == by_name.splitlines()[1:]


def test_the_beginning_of_two_digests_is_refused(ask, house):
    house.run("counts/a")
    manifest = house.store.ref("counts", "a")
    other = dataclasses.replace(manifest, content=manifest.content[:8] + "0" * 56)
    with pytest.raises(ArtifactError, match=r"fits 2 digests: .* \(counts/a\).*; give more digits"):
        _refuse_several(manifest.content[:8], [manifest, other])
    assert ask("lineage", manifest.content[:12])[0] == 0


def test_lineage_tells_what_an_artifact_went_into(ask, house):
    house.run()
    _, out, _ = ask("lineage", "counts/a")
    below = out.partition("went into ")[2].splitlines()
    assert below[0] == "2 artifacts:"
    assert [line.split()[0] for line in below[1:3]] == ["sums/a", "total"]
    assert "went into" not in ask("lineage", "total")[1]


def test_a_file_that_was_changed_after_sealing_has_no_lineage(ask, house):
    house.run()
    copy = house.folder / "total.json"
    copy.write_bytes(
        (house.store.open(house.store.ref("total")).file("total.json")).read_bytes() + b" "
    )
    assert "its bytes were changed after sealing" in refused(ask("lineage", str(copy)))


def test_verify_names_the_file_with_a_flipped_byte(ask, house):
    house.run()
    code, out, _ = ask("verify")
    assert (code, "all as sealed" in out) == (0, True)
    path = house.store.open(house.store.ref("sums", "a")).file("sum.json")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    code, out, _ = ask("verify")
    assert code == 1
    assert "sums/a: " in out and "sum.json" in out


def test_clean_shows_what_nothing_refers_to_and_removes_it_when_asked(ask, house):
    house.run("counts/a")
    assert "0 files and folders" in ask("clean")[1]
    lost = house.store.ref("counts", "a")
    house.store.place.remove(lost.key)
    objects = house.folder / "store" / "objects" / lost.content
    assert f"unneeded  {objects}" in ask("clean")[1]
    assert objects.is_dir()
    assert f"removed   {objects}" in ask("clean", "--remove")[1]
    assert not objects.exists()


def flip(path):
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def test_a_flipped_byte_is_told_by_status_and_made_anew_by_run(ask, house):
    house.run("sums/a")
    for when in ("since it was made", "since it was read"):
        sealed = house.store.ref("counts", "a")
        path = house.folder / "store" / "objects" / sealed.content / "counts.json"
        flip(path)
        assert "stale    counts/a: objects/" in ask("status")[1], when
        code, _, err = ask("run", "sums/a")
        assert (code, "does not fit its digest" in err) == (0, True)
        assert house.store.open(sealed).json("counts.json") == [0, 1, 2, 3, 4]
        assert list((house.folder / "store" / "damaged").rglob("counts.json"))
        assert "fresh    counts/a\n" in ask("status")[1]


def older(data):
    """The manifest as an older version wrote it."""
    document = json.loads(data)
    del document["format"], document["record"]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-40], "is corrupt"),
        (None, "is missing; run its asset"),
        (older, "is of format 1; this version reads 2"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_stale_key_and_run_mends_it(
    ask, house, change, reason
):
    house.run()
    lost = house.store.ref("sums", "a")
    manifest = house.folder / "store" / lost.key
    if change:
        manifest.write_bytes(change(manifest.read_bytes()))
    else:
        manifest.unlink()
    code, out, _ = ask("status")
    assert (code, "4 fresh, 2 stale, 0 missing" in out) == (0, True)
    [line] = [line for line in out.splitlines() if line.startswith("stale    sums/a: ")]
    assert "its manifest cannot be read: manifest " in line and reason in line
    assert "stale    total: upstream sums/a is stale\n" in out
    code, out, _ = ask("lineage", "total")
    assert code == 0
    assert "sums/b" in out and "counts/b" in out
    assert f"not read: sums/a: manifest {lost.key} {reason}" in out
    assert ask("lineage", "sums/b")[0] == 0
    assert reason in refused(ask("lineage", "sums/a"))
    code, out, err = ask("run")
    assert code == 0, err
    assert house.store.ref("sums", "a").content == lost.content
    assert "0 stale" in ask("status")[1]
    assert "all as sealed" in ask("verify")[1]


def test_a_manifest_of_a_newer_format_is_left_to_its_version(ask, house):
    house.run()
    manifest = house.folder / "store" / house.store.ref("total").key
    newer = manifest.read_bytes().replace(b'"format": 2', b'"format": 3')
    manifest.write_bytes(newer)
    assert "stale    total: its manifest cannot be read: " in ask("status")[1]
    assert "is of format 3; this version reads 2: use another store" in ask("run")[2]
    assert manifest.read_bytes() == newer


def test_a_bucket_that_does_not_answer_is_one_line(ask, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-nobody-may-see")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-nobody-may-see")
    told = refused(ask("status", "--store", "s3://bucket/prefix"))
    assert "s3://bucket" in told
    assert "nobody-may-see" not in told


def test_settings_lists_every_setting_with_its_value(ask):
    _, out, _ = ask("settings", "--set", "sums.weights.b=9")
    assert "counts.upto = 5\n" in out
    assert "sums.weights.b = 9.0\n" in out


def test_a_port_that_is_taken_is_one_line(ask):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}: " in refused(ask("ui", "--port", str(port)))
