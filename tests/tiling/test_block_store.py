import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from tiling.block_result import BlockResult
from tiling.block_store import FolderStore, digest_key
from tiling.blocks import Instances


def some_result(seed=0):
    rng = np.random.default_rng(seed)
    owned = Instances(np.array([1, 4]), np.array([True, False]), (0, 1, 5, 6))
    labels = rng.integers(0, 9, (7, 8)).astype(np.int32)
    return BlockResult((3, 4, 10, 12), labels, rng.random(5, np.float32), owned, 7, 2)


def assert_same(first, second):
    for name in ("region", "n_windows", "n_empty", "n_cut"):
        assert getattr(first, name) == getattr(second, name)
    assert first.owned.box == second.owned.box
    for one, other in (
        (first.labels, second.labels),
        (first.outline, second.outline),
        (first.owned.ids, second.owned.ids),
        (first.owned.cut, second.owned.cut),
    ):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def begun(folder, key="a", scale=0.5):
    store = FolderStore(folder, key)
    store.begin(scale)
    return store


def test_a_later_run_finds_what_was_kept(tmp_path):
    begun(tmp_path / "x" / "blocks").save(12, some_result())
    later = FolderStore(tmp_path / "x" / "blocks", "a")
    assert later.finished() == {12}
    assert later.scale == 0.5
    assert_same(later.load(12), some_result())
    assert later.load(3) is None
    names = {path.name for path in (tmp_path / "x" / "blocks").iterdir()}
    assert names == {"slide.json", "12.block"}


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path):
    store = FolderStore(tmp_path / "blocks", "a")
    assert store.finished() == set()
    assert store.scale is None
    assert list(tmp_path.iterdir()) == []


def test_what_belongs_to_another_key_is_dropped_and_said(tmp_path, caplog):
    begun(tmp_path / "blocks", "a").save(0, some_result())
    with caplog.at_level("INFO"):
        other = FolderStore(tmp_path / "blocks", "b")
    assert "dropped" in caplog.text
    assert other.finished() == set()
    assert other.scale is None
    assert not (tmp_path / "blocks").exists()


@pytest.mark.parametrize("head", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_folder_whose_head_is_damaged_is_dropped(tmp_path, head):
    begun(tmp_path / "blocks").save(0, some_result())
    (tmp_path / "blocks" / "slide.json").write_bytes(head)
    assert FolderStore(tmp_path / "blocks", "a").finished() == set()


def test_any_changed_byte_and_any_cut_is_noticed(tmp_path, caplog):
    store = begun(tmp_path)
    store.save(0, some_result())
    path = tmp_path / "0.block"
    intact = path.read_bytes()
    damaged = [intact[:length] for length in (0, 10, 40, len(intact) - 1)]
    damaged += [
        intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :]
        for place in range(0, len(intact), max(1, len(intact) // 40))
    ]
    for content in damaged:
        path.write_bytes(content)
        assert store.load(0) is None
        assert not path.exists()
    assert caplog.text.count("damaged") == len(damaged)


def test_what_was_being_written_when_the_process_died_does_not_count(tmp_path):
    store = begun(tmp_path)
    (tmp_path / ".3.block.77.part").write_bytes(b"half")
    assert store.finished() == set()
    assert json.loads((tmp_path / "slide.json").read_text())["key"] == "a"


def save_from_elsewhere(folder, index):
    FolderStore(folder, "a").save(index, some_result(index))


def test_other_processes_may_drop_their_results(tmp_path):
    store = begun(tmp_path)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=save_from_elsewhere, args=(tmp_path, 5))
    process.start()
    process.join()
    assert store.finished() == {5}
    assert_same(store.load(5), some_result(5))


def test_a_key_depends_on_every_fact():
    facts = {"scale": 0.5, "file": ["a", 1], "settings": {"block_px": 1}}
    keys = {
        digest_key(facts),
        digest_key(facts | {"scale": 0.25}),
        digest_key(facts | {"file": ["a", 2]}),
        digest_key(facts | {"settings": {"block_px": 2}}),
        digest_key({}),
    }
    assert len(keys) == 5
    assert digest_key(dict(reversed(facts.items()))) == digest_key(facts)


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_block_that_finds_no_space_is_named(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise OSError(28, "No space left on device")

    store = begun(tmp_path)
    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match=r"No space left .*7\.block") as caught:
        store.save(7, some_result())
    assert caught.value.errno == 28
    assert [path.name for path in tmp_path.iterdir()] == ["slide.json"]
