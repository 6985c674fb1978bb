"""Lineage for machines and for browsers: one JSON document, and one page that needs nothing else.

The page loads nothing from anywhere and runs no script; whatever a manifest says is escaped.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from assets.cli.audit import found, trainings
from assets.previews import PREVIEWS
from pipelines.lineage import Unread, descendants, sources
from pipelines.node import Graph
from pipelines.stage import Inputs
from pipelines.training.drawn import Drawn, rows
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.places import write_file

LISTED = 1000  # source files on a page; the document has all of them
_RECORD = ("git_commit", "git_dirty", "source_digest", "python", "torch", "platform", "device",
           "workers", "seconds", "metrics")  # fmt: skip


def write(
    store: ArtifactStore, graph: Graph, of: str, *, as_json: bool, html_to: Path | None, out: TextIO
) -> None:
    """Print the lineage of what `of` names as JSON, a list of documents, or write it as a page.

    Raises ArtifactError as `audit.lineage` does, and where the page cannot be written.
    """
    unread: Unread = []
    documents, pages = [], []
    for manifest, _, upto in found(store, graph, of, unread):
        told = document(store, manifest, trainings(manifest, store, upto, unread), unread)
        documents.append(told)
        if html_to is not None:
            family = {m.key: m for m in (manifest, *store.ancestors(manifest, []))}
            pages.append(page(told, store, family))
    if as_json:
        print(json.dumps(documents, indent=1, sort_keys=True), file=out)
    if html_to is not None:
        try:
            write_file(html_to, "".join(pages).encode())
        except OSError as error:
            raise ArtifactError(f"--html {html_to}: {error.strerror}; give another file") from None
        if not as_json:
            print(f"written: {html_to}", file=out)


def document(
    store: ArtifactStore, manifest: Manifest, drawn: list[Drawn], unread: Unread
) -> dict[str, Any]:
    """Everything that is known of where an artifact came from, as JSON-able values.

    `artifacts` has the artifact and all its ancestors by their manifests' keys, nearest first.
    """
    family = [manifest, *store.ancestors(manifest, unread)]
    return {
        "artifact": manifest.key,
        "artifacts": {m.key: _told(m, store) for m in family},
        "went_into": [m.key for m in descendants(store, manifest, unread)],
        "drawn": [_counted(each, store) for each in drawn],
        "sources": [
            {"listed_in": s.listed.name, "path": s.path, "sha256": s.sha256, "clips": s.clips}
            for s in sources(store, manifest, unread)
        ],
        "unread": list(map(str, unread)),
    }


def _told(manifest: Manifest, store: ArtifactStore) -> dict[str, Any]:
    asked, record = manifest.recipe_inputs, manifest.record
    vouched = store.signatures.judge(manifest) if store.signatures else None
    return {
        "name": manifest.name,
        "content": manifest.content,
        "recipe": manifest.recipe,
        "stage": asked.get("stage"),
        "version": asked.get("version"),
        "config": asked.get("config"),
        "made": {name: record[name] for name in _RECORD if name in record},
        "signed": {"by": vouched.keyid, "as": vouched.kind} if vouched else None,
        "files": [[e.path, e.size, e.digest] for e in manifest.files],
        "made_from": {name: f"manifests/{r}/{c}.json" for name, (r, c) in manifest.parents.items()},
    }


def _counted(drawn: Drawn, store: ArtifactStore) -> dict[str, Any]:
    table = rows(store, drawn)
    by_source = {
        str(source): int(table["draws"][table["source"] == source].sum())
        for source in sorted(set(table["source"]))
    }
    return {
        "training": drawn.training.key, "through": drawn.index.key, "steps": drawn.steps,
        "draws": int(drawn.total.sum()), "replaced": drawn.replaced, "by_source": by_source,
    }  # fmt: skip


# ---------------------------------------------------------------- the page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
details { margin-left: 1.2rem; border-left: 2px solid #ccd; padding-left: .6rem; }
summary { cursor: pointer; } code { font-size: 13px; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: 13px; } td { padding: 0 .8rem 0 0; }
"""


def page(told: Mapping[str, Any], store: ArtifactStore, family: Mapping[str, Manifest]) -> str:
    """The document as one HTML page: a tree of artifacts, each with config, numbers, pictures."""
    top = told["artifacts"][told["artifact"]]
    listed = told["sources"][:LISTED]
    more = len(told["sources"]) - len(listed)
    body = [
        f"<h1>Lineage of {_e(top['name'])}</h1><p><code>{_e(top['content'])}</code></p>",
        *_tree(told, told["artifact"], store, family, set()),
        "<h2>What trainings drew</h2>", *_table(
            (f"{told['artifacts'][d['training']]['name']}, {d['steps']} steps",
             f"{d['draws']} draws ({d['replaced']} instead of unreadable ones): {d['by_source']}")
            for d in told["drawn"]),
        f"<h2>{len(told['sources'])} source files</h2>",
        *_table((s["path"], s["listed_in"], s["sha256"]) for s in listed),
        f"<p>… and {more} more: <code>--json</code> has all</p>" if more else "",
        *(f"<p>not read: {_e(problem)}</p>" for problem in told["unread"]),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_e(top["name"])}'
        '</title><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _tree(
    told: Mapping[str, Any], key: str, store: ArtifactStore, family: Mapping[str, Manifest],
    shown: set[str],
) -> Iterator[str]:  # fmt: skip
    """One artifact and what it was made from; what stands above already is named alone."""
    here = told["artifacts"].get(key)
    if here is None or key in shown:
        name = here["name"] if here else key
        yield f"<p>{_e(name)}{' (above)' if here else ' (not read)'}</p>"
        return
    first = not shown
    shown.add(key)
    yield f"<details{' open' if first else ''}><summary>{_e(here['name'])} "
    yield f"<code>{_e(here['content'][:12])}</code></summary>"
    signed = here["signed"] or {"as": "not looked at", "by": ""}
    yield from _table(
        [
            ("stage", f"{here['stage']} version {here['version']}"),
            ("recipe", here["recipe"]),
            ("signed", f"{signed['as']} {signed['by']}"),
            *_leaves(here["config"], "asked"),
            *_leaves(here["made"], "made"),
        ]
    )
    yield from _pictures(family[key], store, family)
    for parent in here["made_from"].values():
        yield from _tree(told, parent, store, family, shown)
    yield "</details>"


def _pictures(
    manifest: Manifest, store: ArtifactStore, family: Mapping[str, Manifest]
) -> Iterator[str]:
    preview = PREVIEWS.get(manifest.asset)
    above = {name: f"manifests/{r}/{c}.json" for name, (r, c) in manifest.parents.items()}
    if preview is None or not set(above.values()) <= family.keys():
        return
    inputs = Inputs({name: store.handle(family[key]) for name, key in above.items()})
    try:
        pictures = preview(store.handle(manifest), inputs)
    except Exception as error:  # a picture less is no reason for no page
        yield f"<p>no picture: {_e(type(error).__name__)}</p>"
        return
    for title, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        kind = "gif" if picture[:3] == b"GIF" else "png"
        yield f'<p>{_e(title)}<br><img alt="{_e(title)}" src="data:image/{kind};base64,{data}"></p>'


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, str(value)


def _table(lines: Iterable[Iterable[object]]) -> Iterator[str]:
    yield "<table>"
    for line in lines:
        yield f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in line)}</tr>"
    yield "</table>"


def _e(value: object) -> str:
    return html.escape(str(value), quote=True)
