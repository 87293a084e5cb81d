"""The demonstration's folder of handwritten digits."""

from PIL import Image

from headstart.data.datasets import load_dataset
from headstart.data.digits import SIDE, write_digits


def test_a_folder_for_each_digit_and_nothing_that_is_there_is_written_again(tmp_path):
    assert write_digits(tmp_path) == 1797
    dataset = load_dataset(tmp_path)
    assert dataset.classes == tuple("0123456789") and len(dataset.images) == 1797
    photo = tmp_path / "7" / "0007.png"
    with Image.open(photo) as image:
        assert image.size == (SIDE, SIDE) and image.getextrema()[0] < 80 and image.getextrema()[1] > 240
    photo.write_bytes(b"the user's own")
    (tmp_path / "0" / "0000.png").unlink()
    assert write_digits(tmp_path) == 1797
    assert photo.read_bytes() == b"the user's own" and (tmp_path / "0" / "0000.png").is_file()
