"""Folders as retrain.py listed them: labels, splits by a hash, and what it merged or crashed on."""

import hashlib
import re
import shutil

import pytest

from headstart.compat.image_lists import FEW, MOST_OF_CLASS, label_of, list_images, split_of
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.errors import DataError
from support.photos import write_photos


def old_split(file_name, testing_percentage, validation_percentage):
    """tensorflow-for-poets-2's scripts/retrain.py, lines of create_image_lists."""
    hash_name = re.sub(r"_nohash_.*$", "", file_name)
    hash_name_hashed = hashlib.sha1(hash_name.encode()).hexdigest()
    percentage_hash = (int(hash_name_hashed, 16) % (MOST_OF_CLASS + 1)) * (100.0 / MOST_OF_CLASS)
    if percentage_hash < validation_percentage:
        return VALIDATION
    if percentage_hash < (testing_percentage + validation_percentage):
        return TEST
    return TRAIN


def test_known_photos_are_where_the_old_script_put_them():
    # By sha1sum and a pocket calculator: 2^27 - 1 = 134217727.
    for path in ("tf_files/flower_photos/daisy/100080576_f52e8ee070_n.jpg", "a/b/c.jpg", "x/y/dog_nohash_2.jpg"):
        assert split_of(path, testing=10, validation=10) == old_split(path, 10, 10)
    assert split_of("tf_files/flower_photos/roses/1.jpg", testing=0, validation=0) == TRAIN
    shares = [split_of(f"p/{i}.jpg", testing=20, validation=30) for i in range(4000)]
    assert shares.count(TEST) / 4000 == pytest.approx(0.2, abs=0.03)
    assert shares.count(VALIDATION) / 4000 == pytest.approx(0.3, abs=0.03)


def test_what_stands_before_nohash_decides():
    names = [f"leaf_nohash_{i}.jpg" for i in range(50)]
    assert len({split_of(name, testing=40, validation=40) for name in names}) == 1


@pytest.mark.parametrize(
    ("folder", "label"), [("Daisy", "daisy"), ("not_Alpaca", "not alpaca"), ("A--B 2", "a b 2"), ("Größe", "gr e")]
)
def test_labels_are_cleaned(folder, label):
    assert label_of(folder) == label


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", n=30)


def test_a_folder_that_moves_keeps_its_split_and_by_path_it_does_not(photos, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(photos, moved)
    kwargs = {"testing": 20, "validation": 20}
    assert list_images(str(photos), **kwargs).splits == list_images(f"{moved}/", **kwargs).splits
    first, second = (list_images(str(p), split_by="path", **kwargs) for p in (photos, moved))
    assert first.splits != second.splits
    assert first.splits == tuple(old_split(path, 20, 20) for path in first.paths)


def test_what_the_script_warned_of_is_warned_of(photos):
    (photos / "empty").mkdir()
    few = photos / "few"
    few.mkdir()
    for file in sorted((photos / "red").iterdir())[: FEW - 1]:
        shutil.copy(file, few / f"few {file.name}")
    (few / "notes.txt").write_text("no photo")
    said = []
    images = list_images(str(photos), testing=10, validation=10, warn=said.append)
    assert images.labels == ("blue", "few", "green", "red") and "notes.txt" not in "".join(images.paths)
    assert said == [
        "No files found in 'empty'",
        f"WARNING: Folder 'few' has less than {FEW} images, which may cause issues.",
    ]


def test_folders_that_the_script_merged_are_refused(photos):
    shutil.copytree(photos / "red", photos / "Red!"[:3] / ".." / "RED")
    with pytest.raises(DataError, match="'RED' and 'red' are one label, 'red'"):
        list_images(str(photos), testing=10, validation=10)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: shutil.rmtree(p), "not found"),
        (lambda p: [shutil.rmtree(d) for d in p.iterdir()], "No valid folders of images found at"),
        (lambda p: [shutil.rmtree(p / d) for d in ("red", "blue")], "Only one valid folder of images found at"),
    ],
)
def test_what_cannot_be_learnt_from_is_told(photos, make, why):
    make(photos)
    with pytest.raises(DataError, match=why):
        list_images(str(photos), testing=10, validation=10)


@pytest.mark.parametrize("shares", [(60, 40), (-1, 10), (10, 95)])
def test_shares_that_leave_nothing_are_told(photos, shares):
    with pytest.raises(DataError, match="leave nothing to learn from"):
        list_images(str(photos), testing=shares[0], validation=shares[1])


def test_a_class_that_is_all_held_out_is_named(photos):
    for file in sorted((photos / "red").iterdir())[1:]:
        file.unlink()
    (only,) = (photos / "red").iterdir()
    shares = {TEST: (99, 0), VALIDATION: (0, 99)}
    testing, validation = next(
        s for split, s in shares.items() if split_of(only.name, testing=s[0], validation=s[1]) == split
    )
    with pytest.raises(DataError, match="no photo of .*'red'.* is left to learn from"):
        list_images(str(photos), testing=testing, validation=validation)
