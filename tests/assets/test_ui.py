"""What a person sees in the browser: the page that `vjepa2 ui` serves, driven by a real Chromium.

- the page shows the whole graph, and nothing covers it;
- an asset is materialized by clicking: a folder of real video files becomes a sealed artifact, its
  partition turns green, its checks pass, and its numbers and picture stand beside it;
- the launchpad offers the profile's settings;
- `vjepa2 status` sees what was clicked;
- where a file is gone, the page says what `vjepa2 status` says, and one click makes it anew.

Screenshots are kept in the folder that VJEPA2_SCREENSHOTS names, else in pytest's own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from playwright import sync_api as playwright

from pipelines.nodes import GRAPH, PROFILES
from storage.video import encode
from tests.absent import skip_at_home

ROOT = Path(__file__).resolve().parent.parent.parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
]
pytestmark = pytest.mark.xdist_group("ui")  # one server, one browser
SLOW = 120_000  # milliseconds: everything here takes a second on a quiet machine


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A folder with three videos (one broken) for the source `ssv2`; store and home beside it."""
    folder = tmp_path_factory.mktemp("ui")
    (folder / "videos").mkdir()
    for number in range(2):
        frames = np.zeros((12, 64, 96, 3), np.uint8)
        for t in range(12):
            frames[t, 20:40, 4 * t : 4 * t + 20] = (255, 80 * number, 60)
        (folder / "videos" / f"{number}.mp4").write_bytes(encode(frames, 6.0).data)
    (folder / "videos" / "broken.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def settings(house) -> dict[str, str]:
    return os.environ | {
        "VJEPA2_PROFILE": "demo",
        "VJEPA2_HOME": str(house / "home"),
        "VJEPA2_STORE": str(house / "store"),
        "VJEPA2_SET": f"raw_videos.sources.ssv2.location={house / 'videos'}",
    }


@pytest.fixture(scope="module")
def page_at(settings, house) -> Iterator[str]:
    """The address of a page that `vjepa2 ui` serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "assets.cli", "ui", "--port", str(port)]
    with open(house / "ui.log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/server_info", server, house / "ui.log")
        yield address
    finally:
        _stop(server)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert server.poll() is None, f"the server left: {log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"no page at {address} after three minutes: {log.read_text()[-2000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ctrl-C for the whole process group, then less politely for what is left of it."""
    os.killpg(server.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        server.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if BROWSER is None:
        skip_at_home("no chromium on the PATH: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, page_at, request):
    page = browser.new_page(viewport={"width": 1500, "height": 1000}, base_url=page_at)
    page.set_default_timeout(SLOW)
    yield page
    page.close()


@pytest.fixture
def keep(page, house):
    """keep("name"): keep a screenshot under that name."""
    folder = Path(os.environ.get("VJEPA2_SCREENSHOTS", house / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def kept(name: str) -> None:
        page.wait_for_timeout(1500)  # the graph glides into place
        page.screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 10_000

    return kept


def test_the_page_shows_the_whole_graph(page, keep):
    page.goto("/asset-groups")
    for group in dict.fromkeys(node.group for node in GRAPH.nodes):
        page.get_by_text(group, exact=True).first.wait_for()
    keep("graph")
    for group in ("curation", "training"):
        page.goto(f"/locations/assets.definitions/asset-groups/{group}/lineage")
        for name, node in GRAPH.by_name.items():
            if node.group == group:
                page.get_by_text(name, exact=True).first.wait_for()
        keep(group)


def test_an_asset_is_materialised_by_clicking_and_turns_green(page, keep, house, settings):
    page.goto("/assets/raw_videos")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Select a partition or create one").first.click()
    page.get_by_text("ssv2", exact=True).first.click()
    page.get_by_text("Launch runs to materialize").first.click()  # closes the list
    keep("launch")
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launch runs to materialize").wait_for(state="detached")

    page.goto("/assets/raw_videos?view=partitions&partition=ssv2")
    state = page.get_by_text("Materialized", exact=True)
    reload_until_shown(page, state)
    red, green, blue = colour_of(state)
    assert green > red and green > blue
    keep("materialized")

    page.get_by_text("[Show Markdown]").first.click()
    picture = page.get_by_role("img", name="kinds of files")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
    keep("picture")

    page.goto("/assets/raw_videos?view=checks")
    page.get_by_text("quarantine_small", exact=True).first.click()
    page.get_by_text("1 of 3 items quarantined (33.3%; at most 50%)").wait_for()
    page.get_by_text("Passed", exact=True).first.wait_for()
    keep("checks")

    assert "fresh    raw_videos/ssv2\n" in status(settings)


def test_a_changed_file_is_stale_on_the_page_with_the_reason_and_one_click_makes_it(
    page, keep, house, settings
):
    """Of the same partition as above: the page, too, says what `vjepa2 status` says."""
    (house / "videos" / "0.mp4").unlink()
    told = status(settings)
    reason = re.search(r"stale    raw_videos/ssv2: (external_inputs\.0\.mp4 is gone)", told)[1]
    page.goto("/assets/raw_videos?view=checks&checkDetail=fresh")
    page.get_by_text("fresh", exact=True).first.click()
    reload_until_shown(page, page.get_by_text(f"stale: {reason}").first)
    keep("stale")
    page.goto("/locations/assets.definitions/asset-groups/curation/lineage")
    page.get_by_text("raw_videos", exact=True).first.wait_for()
    keep("stale_lineage")

    page.goto("/locations/assets.definitions/jobs/stale/playground")
    page.get_by_role("button", name="Launch run").click()
    end = time.monotonic() + 240
    while "fresh    raw_videos/ssv2\n" not in status(settings):
        assert time.monotonic() < end, "not made after four minutes"
        time.sleep(3)


def status(settings) -> str:
    """What `vjepa2 status` says."""
    return subprocess.run(
        [sys.executable, "-m", "assets.cli", "status"],
        cwd=ROOT, env=settings, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def reload_until_shown(page, element, seconds: float = 240) -> None:
    """This page does not follow a run by itself: look again every few seconds."""
    end = time.monotonic() + seconds
    while True:
        with suppress(playwright.TimeoutError):
            return element.wait_for(timeout=5_000)
        assert time.monotonic() < end, "not there after four minutes"
        page.reload()


def colour_of(element) -> list[int]:
    """Red, green and blue of an element's text, as the browser paints it."""
    painted = element.evaluate("element => getComputedStyle(element).color")
    return [int(part) for part in re.findall(r"\d+", painted)[:3]]


def test_the_launchpad_offers_the_profiles_settings(page, keep):
    page.goto("/assets/clusters")
    page.get_by_role("button", name="Materialize").first.wait_for()
    page.locator("xpath=//button[contains(., 'Materialize')]/following::button[1]").first.click()
    page.get_by_text("Open launchpad").click()
    page.get_by_role("button", name="Confirm").click()  # its upstreams are not there yet
    page.get_by_text("train_scenes").first.wait_for()
    clusters = PROFILES["demo"].clusters.clusters
    page.get_by_text(f"clusters: {clusters}").first.wait_for()
    keep("launchpad")
