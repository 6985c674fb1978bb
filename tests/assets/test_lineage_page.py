"""Lineage for machines and browsers: the document has every artifact behind one, the page is whole
by itself, and whatever a manifest says is escaped."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

from assets.cli.lineage_page import document, page
from tests.assets.test_cli import ask

__all__ = ["ask"]


class Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_document_has_every_artifact_behind_one(ask, house) -> None:
    house.run("total")
    [told] = json.loads(ask("lineage", "total", "--json")[1])
    names = {found["name"] for found in told["artifacts"].values()}
    assert names == {"total", "counts/a", "counts/b", "sums/a", "sums/b"}
    top = told["artifacts"][told["artifact"]]
    assert set(top["made_from"]) == {"sums/a", "sums/b"}
    assert set(top["made_from"].values()) <= told["artifacts"].keys()
    assert top["config"] == {"fails": False, "label": "total"}
    assert top["signed"]["as"] == "own"
    [below] = json.loads(ask("lineage", "sums/a", "--json")[1])
    assert below["went_into"] == [told["artifact"]]


def test_the_page_is_whole_by_itself(ask, house) -> None:
    house.run("total")
    where = house.folder / "lineage.html"
    code, out, _ = ask("lineage", "total", "--html", str(where))
    assert (code, out) == (0, f"written: {where}\n")
    found = Tags(where.read_text())
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "base"}
    fetched = [v for _, named in found.tags for k, v in named.items() if k in ("src", "href")]
    # The preview of `counts` in the tiny house, once for each of two partitions.
    assert len(fetched) == 2 and all(str(v).startswith("data:image/png;base64,") for v in fetched)
    for text in ("counts/a", "sums/b", "asked.label", "made.metrics.total", "0 source files"):
        assert text in found.text
    code, _, err = ask("lineage", "total", "--html", "/proc/none/l.html")
    assert code == 2 and "--html /proc/none/l.html: " in err and err.count("\n") == 1


def test_what_a_manifest_says_is_escaped(house) -> None:
    house.run("counts/a")
    manifest = house.store.ref("counts", "a")
    evil = "<script>alert('x')</script>\" onload=\"y"
    record = {**manifest.record, "git_commit": evil, "metrics": {evil: evil}}
    forged = dataclasses.replace(manifest, record=record)
    told = document(house.store, forged, [], [])
    text = page(told, house.store, {forged.key: forged})
    found = Tags(text)
    assert "script" not in {tag for tag, _ in found.tags}
    assert not [name for _, named in found.tags for name in named if name.startswith("on")]
    assert evil in found.text
