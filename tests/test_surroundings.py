"""The suite proves the same wherever it runs: in CI a test that lacks something fails instead of
being skipped; every long proof has a small version that CI runs; examples are the same everywhere,
and none is timed; what it starts can be interrupted even where it was itself started with Ctrl-C
switched off (`make test &` in a script).
"""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.absent import skip_at_home
from tests.interrupts import heeding_ctrl_c
from tests.test_architecture import modules, parsed

WAYS_TO_SKIP = {"skip", "skipif", "importorskip", "xfail", "SkipTest", "skipTest"}


def ways_to_skip(module: str) -> Iterator[str]:
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Attribute) and node.attr in WAYS_TO_SKIP:
            yield f"{module}:{node.lineno}: {node.attr}"


def test_nothing_is_skipped_but_through_one_door() -> None:
    door, here = "tests/absent.py", "tests/test_surroundings.py"
    assert len(list(ways_to_skip(door))) == 1
    others = set(modules("tests")) - {door, here}
    assert [way for module in others for way in ways_to_skip(module)] == []


def test_what_is_missing_fails_in_ci_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        skip_at_home("no browser")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        skip_at_home("no browser")


def heavy_marks(test: ast.FunctionDef) -> Iterator[str | None]:
    """The small version that each mark of a test names which is heavy whatever its parameters."""
    for mark in test.decorator_list:
        call = mark if isinstance(mark, ast.Call) else None
        if getattr(call.func if call else mark, "attr", "") == "heavy":
            named = {k.arg: k.value for k in call.keywords} if call else {}
            small = named.get("small")
            yield str(small.value) if isinstance(small, ast.Constant) else None


def test_every_long_proof_has_a_small_version_beside_it() -> None:
    found = 0
    for module in modules("tests"):
        tests = {n.name: n for n in ast.walk(parsed(module)) if isinstance(n, ast.FunctionDef)}
        for test in tests.values():
            for small in heavy_marks(test):
                found += 1
                assert small in tests, f"{module}: {test.name}: which test is its small version?"
                assert not list(heavy_marks(tests[small])), f"{module}: {small} is heavy, too"
    assert found


def test_examples_are_neither_drawn_anew_nor_timed() -> None:
    assert settings().derandomize and settings().deadline is None


@pytest.fixture
def started_in_the_background() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("started_in_the_background")
def test_children_heed_ctrl_c_when_the_suite_does_not() -> None:
    def heard() -> str:
        asked = [sys.executable, "-c", "import signal; print([signal.getsignal(signal.SIGINT)])"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    assert "SIG_IGN" in heard()
    with heeding_ctrl_c():
        assert "default_int_handler" in heard()
    assert "SIG_IGN" in heard()
