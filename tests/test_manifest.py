import json

import pytest

from manifest import WeightsError, read_manifest, verified_path, write_entry


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"weights")
    write_entry(tmp_path, "a.bin", {"steps": 3, "sha256": "not this one"})
    return tmp_path


def test_an_intact_file_is_given(folder):
    assert verified_path("a.bin", folder) == folder / "a.bin"


def test_the_proof_cannot_be_overwritten_by_metadata(folder):
    entry = read_manifest(folder)["a.bin"]
    assert entry["steps"] == 3
    assert entry["bytes"] == 7
    assert len(entry["sha256"]) == 64


def test_entries_of_other_files_stay(folder):
    (folder / "b.bin").write_bytes(b"more")
    write_entry(folder, "b.bin", {})
    assert sorted(read_manifest(folder)) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("content", [b"weights!", b"Weights", b""])
def test_a_tampered_file_is_refused(folder, content):
    (folder / "a.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.bin: differs from manifest\.json"):
        verified_path("a.bin", folder)


def test_a_missing_file_is_named(folder):
    (folder / "a.bin").unlink()
    with pytest.raises(WeightsError, match=r"a\.bin: No such file"):
        verified_path("a.bin", folder)


def test_an_unlisted_file_is_refused(folder):
    (folder / "c.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"c\.bin: not listed"):
        verified_path("c.bin", folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', json.dumps({"files": {"a": 1}})])
def test_a_broken_manifest_is_one_clear_line(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"manifest\.json: not a readable manifest") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_manifest_says_what_to_do(tmp_path):
    with pytest.raises(WeightsError, match="--weights"):
        read_manifest(tmp_path)
