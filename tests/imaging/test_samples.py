import numpy as np
import pytest

from imaging.reading import list_images, open_image
from imaging.samples import SAMPLES, main, read_sample, write_samples
from imaging.writing import find_name_clashes


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_written_sample_reads_back_as_it_is(sample, tmp_path):
    write_samples(tmp_path)
    wanted = read_sample(sample)
    with open_image(tmp_path / sample.name) as image:
        y, x, _ = image.shape
        pixels = image.read((0, 0, y, x))
    np.testing.assert_array_equal(pixels, wanted.reshape(y, x, -1))


def test_samples_are_images_with_labels_of_their_own(tmp_path):
    paths = write_samples(tmp_path / "new" / "folder")
    assert list_images(tmp_path / "new" / "folder").images == tuple(sorted(paths))
    assert not find_name_clashes(paths)


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    assert main(["-o", str(tmp_path / "file")]) == 1
    (record,) = caplog.records
    assert str(tmp_path / "file") in record.message
    assert "\n" not in record.message
