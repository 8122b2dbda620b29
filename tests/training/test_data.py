import math

import numpy as np
import pytest
import tifffile

from tests.training.folders import names_of, write_index
from training.data import (
    DataError,
    Record,
    list_records,
    read_image,
    read_labels,
    split_validation,
)

NEEDED = "image,label,modality,expert,dataset,split,cells,median_diameter_px,annotated"


def make_records(folder, names, dataset="set", split="train", labelled=True):
    return [
        Record(folder / name, folder / "label.png" if labelled else None, "dic", "", dataset, split)
        for name in names
    ]


def test_an_index_is_read_row_by_row(tmp_path):
    write_index(
        tmp_path,
        [
            {
                "image": "dic/a.png",
                "label": "dic/a_label.png",
                "modality": "dic",
                "expert": "cellpose_dic",
                "dataset": "hela",
                "split": "train",
                "cells": "12",
                "median_diameter_px": "33.5",
                "annotated": "partial: bright cells only",
            },
            {"image": "b.png", "split": "unlabelled"},
        ],
    )
    first, second = list_records(tmp_path)
    assert (first.image, first.label) == (tmp_path / "dic/a.png", tmp_path / "dic/a_label.png")
    assert (first.modality, first.expert, first.dataset) == ("dic", "cellpose_dic", "hela")
    assert (first.split, first.cells, first.median_diameter_px) == ("train", 12, 33.5)
    assert first.is_partial
    assert (second.label, second.modality, second.cells) == (None, "", 0)
    assert math.isnan(second.median_diameter_px)
    assert not second.is_partial


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("image,label\na.png,b.png\n", "modality"),
        ("label,modality\nb.png,dic\n", "image"),
        (f"{NEEDED}\na.png,,dic,,set,train,many,,all\n", "many"),
    ],
)
def test_an_index_that_is_off_is_one_line_that_names_it(tmp_path, text, word):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError, match=rf"index\.csv: .*{word}") as caught:
        list_records(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def challenge(tmp_path):
    """Make the empty files of a folder with the challenge's layout."""
    for name in (
        "Training-labeled/images/cell_1.png",
        "Training-labeled/images/cell_2.TIF",
        "Training-labeled/images/cell_3.bmp",
        "Training-labeled/images/notes.txt",
        "Training-labeled/labels/cell_1_label.tiff",
        "Training-labeled/labels/cell_2_label.tiff",
        "Training-unlabeled/x.jpg",
        "Training-unlabeled/deeper/y.png",
        "Tuning/images/t.png",
        "Tuning/labels/t_label.tiff",
        "Elsewhere/z.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_the_layout_of_the_challenge_is_found(challenge):
    records = list_records(challenge)
    found = {r.image.name: (r.label and r.label.name, r.split, r.modality) for r in records}
    assert found == {
        "cell_1.png": ("cell_1_label.tiff", "train", ""),
        "cell_2.TIF": ("cell_2_label.tiff", "train", ""),
        "cell_3.bmp": (None, "train", ""),
        "t.png": ("t_label.tiff", "test", ""),
        "x.jpg": (None, "unlabelled", ""),
        "y.png": (None, "unlabelled", ""),
    }


def test_case_of_the_folders_does_not_matter(challenge):
    (challenge / "Training-labeled").rename(challenge / "training-LABELED")
    assert names_of(list_records(challenge))[:3] == ["cell_1.png", "cell_2.TIF", "cell_3.bmp"]


def test_an_index_goes_before_the_layout(challenge):
    write_index(challenge, [{"image": "Elsewhere/z.png", "split": "train"}])
    assert names_of(list_records(challenge)) == ["z.png"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_with_neither_says_what_to_do(tmp_path, name):
    with pytest.raises(DataError, match="point --data at"):
        list_records(tmp_path / name)


@pytest.mark.parametrize("n_images", [5, 20, 33, 100])
def test_a_fifth_of_the_images_validates(tmp_path, n_images):
    names = [f"image_{chr(97 + i % 26)}{i // 26}x.png" for i in range(n_images)]
    train, validation = split_validation(make_records(tmp_path, names))
    assert sorted(names_of([*train, *validation])) == sorted(names)
    assert len(validation) == pytest.approx(0.2 * n_images, abs=0.5)


def test_the_split_depends_on_nothing_but_names(tmp_path):
    names = [f"cell {i} of many.png" for i in range(40)]
    _, first = split_validation(make_records(tmp_path, names))
    _, again = split_validation(make_records(tmp_path / "moved", reversed(names), "renamed"))
    assert sorted(names_of(first)) == sorted(names_of(again))
    assert names_of(first) != names[-len(first) :]  # scattered, not the end of the list


def test_the_split_is_the_same_on_every_machine(tmp_path):
    """A run that starts from another must not validate on what that one learnt."""
    _, validation = split_validation(make_records(tmp_path, [f"{c}.png" for c in "abcdefghij"]))
    assert names_of(validation) == ["a.png", "e.png"]  # the largest CRC-32


def test_each_data_set_gives_its_fifth(tmp_path):
    records = [
        record
        for dataset, n in (("a", 10), ("b", 50), ("c", 2), ("d", 1))
        for record in make_records(tmp_path, [f"{dataset}{i}x.png" for i in range(n)], dataset)
    ]
    train, validation = split_validation(records)
    assert [r.dataset for r in validation] == ["a"] * 2 + ["b"] * 10 + ["c"]
    assert [r.dataset for r in train if r.dataset in "cd"] == ["c", "d"]


@pytest.mark.parametrize("pattern", ["{}_t{:03d}.tif", "{}-f{}.png", "{}_f{}.png"])
def test_sequences_are_not_torn(tmp_path, pattern):
    names = [pattern.format(f"film {c}", 150 + i) for c in "abcdefghij" for i in range(7)]
    train, validation = split_validation(make_records(tmp_path, names))
    films = [{name[:6] for name in names_of(side)} for side in (train, validation)]
    assert len(films[0]) == 8
    assert len(films[1]) == 2
    assert not films[0] & films[1]


@pytest.mark.parametrize("pattern", ["f{}.png", "film_t{}.tif"])
def test_a_single_sequence_gives_its_last_frames(tmp_path, pattern):
    names = [pattern.format(160 + i) for i in range(10)]
    train, validation = split_validation(make_records(tmp_path, reversed(names)))
    assert names_of(train) == names[:8]
    assert names_of(validation) == names[8:]


def test_test_and_unlabelled_images_are_on_no_side(tmp_path):
    records = [
        *make_records(tmp_path, [f"a{i}x.png" for i in range(5)]),
        *make_records(tmp_path, ["test.png"], split="test"),
        *make_records(tmp_path, ["unlabelled.png"], split="unlabelled", labelled=False),
        *make_records(tmp_path, ["no label.png"], labelled=False),
    ]
    train, validation = split_validation(records)
    assert sorted(names_of([*train, *validation])) == [f"a{i}x.png" for i in range(5)]
    assert split_validation(records[5:]) == ([], [])


def test_images_and_labels_are_read_whole(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (20, 30), np.uint16)
    labels = rng.integers(0, 70000, (20, 30), np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", image)
    tifffile.imwrite(tmp_path / "b.tif", labels)
    (record,) = make_records(tmp_path, ["a.tif"])
    np.testing.assert_array_equal(read_image(record), image[:, :, None])
    read = read_labels(tmp_path / "b.tif")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)
