"""What is handed to others carries papers that their own tools accept: a model card (Hugging Face),
a bill of materials (CycloneDX), provenance (in-toto, SLSA) and a model signature (OpenSSF). The
files are those that were sealed, and equal artifacts have equal papers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from model_signing import verifying

from storage.digests import digest_file
from storage.envelopes import parse
from tests.assets.test_cli import ask, refused
from tests.assets.test_vouching import forge

__all__ = ["ask"]
PAPERS = {"README.md", "bom.cdx.json", "provenance.intoto.json", "model.sig", "signing-key.pem"}


@pytest.fixture
def handed(ask, house, tmp_path: Path) -> Path:
    house.run("total")
    code, _, err = ask("export", "total", str(tmp_path / "out"))
    assert code == 0, err
    return tmp_path / "out"


def check(folder: Path) -> None:
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=folder / "signing-key.pem")
    verifier.verify(folder, folder / "model.sig")


def test_the_files_are_those_that_were_sealed(house, handed: Path) -> None:
    total = house.store.ref("total")
    found = {path.relative_to(handed).as_posix() for path in handed.rglob("*") if path.is_file()}
    assert found == PAPERS | total.by_path.keys()
    assert all(digest_file(handed / e.path) == e.digest for e in total.files)


def test_whoever_writes_into_what_was_handed_on_changes_nothing_in_the_store(
    house, handed: Path
) -> None:
    total = house.store.ref("total")
    for entry in total.files:
        (handed / entry.path).write_bytes(b"theirs")
    assert not [problem for _, problem in house.store.verify() if problem]


def test_what_was_forged_is_not_handed_on(ask, house, tmp_path: Path) -> None:
    house.run("sums/a")
    forge(house, "counts", "a")
    told = refused(ask("export", "counts/a", str(tmp_path / "out")))
    assert "counts/a: its manifest is not the one that was signed with key" in told
    assert not (tmp_path / "out").exists()


def test_model_signing_accepts_it_and_finds_what_was_changed(handed: Path) -> None:
    check(handed)
    (handed / "README.md").write_text("---\n---\nanother card\n")
    with pytest.raises(ValueError, match="mismatch"):
        check(handed)


def test_the_bill_of_materials_is_one_of_cyclonedx(house, handed: Path) -> None:
    text = (handed / "bom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    names = {part["name"] for part in bill["components"]}
    assert {"sums/a", "sums/b", "torch", "numpy"} <= names
    assert bill["metadata"]["component"]["bom-ref"] == house.store.ref("total").content


def test_the_card_is_one_of_hugging_face(house, handed: Path) -> None:
    card = ModelCard.load(handed / "README.md")
    assert card.data.library_name == "pytorch" and "total" in card.data.tags
    assert f"content `{house.store.ref('total').content}`" in card.text
    assert "- `label` = `total`" in card.text


def test_provenance_speaks_of_every_file(house, handed: Path) -> None:
    told = parse((handed / "provenance.intoto.json").read_bytes(), "provenance")
    assert set(told.subjects) >= {(e.path, e.digest) for e in house.store.ref("total").files}


def test_equal_artifacts_have_equal_papers(ask, handed: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert ask("export", "total", str(tmp_path / "again" / "out"))[0] == 0
    for name in PAPERS:
        assert (tmp_path / "again" / "out" / name).read_bytes() == (handed / name).read_bytes()


def test_a_folder_that_is_there_and_a_name_of_several_are_one_line(
    ask, handed: Path, tmp_path: Path
) -> None:
    assert f"{handed}: File exists; give a new folder" in refused(
        ask("export", "total", str(handed))
    )
    assert "sums names 2 artifacts" in refused(ask("export", "sums", str(tmp_path / "x")))
