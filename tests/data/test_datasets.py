"""From folders and tables to labelled images, and who may learn from which: the splits follow content, never names."""

import csv
import hashlib
import inspect
import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.datasets import check_classes, load_dataset, walk
from headstart.data.decoding import Failure
from headstart.data.images import display_name
from headstart.data.labels import natural_key
from headstart.data.splits import SPLITS, TEST, TRAIN, UNASSIGNED, VALIDATION, assign_splits, contradictions, leaks
from headstart.data.tables import TableImage
from headstart.errors import DataError, MissingExtra


def make(root: Path, *names: str) -> Path:
    """Write small files of these names, each its own, that begin as JPEGs do; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\xff\xd8\xff" + name.encode())
    return root


def found(dataset, root: Path) -> dict[str, str]:
    """Which label each image has, by its path below the root."""
    return {
        os.path.relpath(image, root): dataset.classes[label]
        for image, label in zip(dataset.images, dataset.labels, strict=True)
    }


def splits_of(dataset) -> list[str]:
    return ["" if s == UNASSIGNED else SPLITS[s] for s in dataset.splits]


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    return str(caught.value)


PAIRS = ("cat/1", "cat/2", "dog/1", "dog/2")


# ---- a folder per class


def test_a_folder_per_class(tmp_path):
    dataset = load_dataset(make(tmp_path, *PAIRS))
    assert found(dataset, tmp_path) == {"cat/1": "cat", "cat/2": "cat", "dog/1": "dog", "dog/2": "dog"}
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.dtype == np.int64 and dataset.splits.dtype == np.int8
    assert splits_of(dataset) == [""] * 4
    assert dataset.skipped == ()
    assert load_dataset(str(tmp_path) + os.sep).images == dataset.images


@pytest.mark.parametrize(
    "name", ["with space", "[brackets]*?", "🐈 cats", 'it\'s "quoted"', "Größe", "a,b;c", "-rf", "100%", "a\nb", "x.parquet"]
)
def test_classes_are_called_as_their_folders_are(name, tmp_path):
    dataset = load_dataset(make(tmp_path, f"{name}/{name}.jpg", f"{name}/2", *PAIRS))
    assert name in dataset.classes
    assert found(dataset, tmp_path)[f"{name}/{name}.jpg"] == name


def test_a_class_whose_name_is_not_utf8(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has no such names")
    for name in (b"1.jpg", b"\xff.jpg"):
        with open(os.path.join(folder, name), "wb"):
            pass
    dataset = load_dataset(make(tmp_path, *PAIRS))
    assert dataset.classes == (os.fsdecode(b"caf\xe9"), "cat", "dog")
    assert all(os.path.exists(image) for image in dataset.images)


def test_classes_come_in_natural_order_and_differ_by_case(tmp_path):
    names = ["10", "9", "2", "cat", "Cat", "Bird", "class 10", "class 9", "002"]
    make(tmp_path, *(f"{name}/{i}" for name in names for i in (1, 2)))
    assert load_dataset(tmp_path).classes == ("002", "2", "9", "10", "Bird", "Cat", "cat", "class 9", "class 10")


@given(st.lists(st.text("aB0129²٣é ", max_size=8), max_size=8))
@settings(max_examples=60)
def test_natural_order_is_one_order_of_all_names(names):
    ordered = sorted(names, key=natural_key)
    assert ordered == sorted(reversed(names), key=natural_key)
    assert len({natural_key(name)[1] for name in names}) == len(set(names))
    assert natural_key("9" * 5000) < natural_key("1" + "0" * 5000)


def test_images_come_in_natural_order_with_nested_folders(tmp_path):
    make(tmp_path, "cat/10.jpg", "cat/9.jpg", "cat/in 9/b/1", "cat/in 9/a/1", "cat/in 10/x", "dog/1", "dog/2")
    assert list(found(load_dataset(tmp_path), tmp_path))[:5] == [
        "cat/9.jpg",
        "cat/10.jpg",
        "cat/in 9/a/1",
        "cat/in 9/b/1",
        "cat/in 10/x",
    ]


def test_hidden_files_and_systems_leftovers_are_passed_over_in_silence(tmp_path):
    make(tmp_path, *PAIRS, ".git/config", "__MACOSX/cat/1", "Thumbs.db", ".DS_Store", "@eaDir/x", "$RECYCLE.BIN/y")
    make(tmp_path, "cat/.hidden", "cat/Thumbs.db", "cat/thumbs.DB", "cat/.DS_Store", "cat/desktop.ini", "cat/.cache/z")
    make(tmp_path, "cat/__MACOSX/._1", "cat/._1")
    dataset = load_dataset(tmp_path)
    assert list(found(dataset, tmp_path)) == list(PAIRS)
    assert dataset.skipped == ()


def test_files_beside_the_classes_and_empty_classes_are_told(tmp_path):
    dataset = load_dataset(make(tmp_path, *PAIRS, "readme.txt", "10.jpg", "9.jpg", "none/", "hollow/.hidden"))
    assert dataset.classes == ("cat", "dog")
    assert {os.path.basename(path): reason for path, reason in dataset.skipped} == {
        "readme.txt": "it is in no class's folder",
        "9.jpg": "it is in no class's folder",
        "10.jpg": "it is in no class's folder",
        "none": "the folder holds no images, so it is no class",
        "hollow": "the folder holds no images, so it is no class",
    }


def test_a_run_that_was_written_among_the_photos_is_no_class(tmp_path):
    make(tmp_path, *PAIRS, "photos-run/run.json", "photos-run/model.onnx")
    assert load_dataset(tmp_path).classes == ("cat", "dog")


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    make(tmp_path, *PAIRS, "cat/secret/3")
    (tmp_path / "cat" / "secret").chmod(0)
    try:
        dataset = load_dataset(tmp_path)
    finally:
        (tmp_path / "cat" / "secret").chmod(0o700)
    assert len(dataset.images) == 4
    assert dataset.skipped[0].reason == "the folder cannot be read: Permission denied"


# ---- links


def test_links_to_files_and_folders_are_followed(tmp_path):
    photos = make(tmp_path / "photos", *PAIRS)
    make(tmp_path, "elsewhere/3", "birds/1", "birds/2")
    (photos / "cat" / "link").symlink_to(tmp_path / "elsewhere" / "3")
    (photos / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (photos / "bird").symlink_to(tmp_path / "birds")
    labels = found(load_dataset(photos), photos)
    assert labels == {
        **{name: name[:3] for name in PAIRS},
        "cat/link": "cat",
        "dog/more/3": "dog",
        "bird/1": "bird",
        "bird/2": "bird",
    }


@pytest.mark.parametrize(
    ("link", "target"),
    [("cat/up", "."), ("cat/far up", ".."), ("cat/again", "cat"), ("cat/in/up", "cat"), ("cat/self", "cat/self")],
)
def test_links_that_loop_neither_hang_nor_bring_in_other_classes(link, target, tmp_path):
    photos = make(tmp_path / "photos", *PAIRS, "cat/in/3")
    (photos / link).symlink_to(photos / target)
    labels = found(load_dataset(photos), photos)
    labels.pop("cat/self", None)  # a link to itself is a file that cannot be read, as load_image will say
    assert labels == {**{name: name[:3] for name in PAIRS}, "cat/in/3": "cat"}


def test_a_class_that_is_a_link_to_all_the_photos_is_no_class(tmp_path):
    make(tmp_path, *PAIRS)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert load_dataset(tmp_path).classes == ("cat", "dog")


def test_two_links_that_lead_to_each_other(tmp_path):
    make(tmp_path, *PAIRS, "cat/a/", "cat/b/")
    (tmp_path / "cat" / "a" / "b").symlink_to(tmp_path / "cat" / "b")
    (tmp_path / "cat" / "b" / "a").symlink_to(tmp_path / "cat" / "a")
    assert list(found(load_dataset(tmp_path), tmp_path)) == list(PAIRS)


def test_a_link_that_leads_nowhere_is_left_for_its_reader_to_tell(tmp_path):
    make(tmp_path, *PAIRS)
    (tmp_path / "cat" / "gone").symlink_to(tmp_path / "nowhere")
    assert "cat/gone" in found(load_dataset(tmp_path), tmp_path)


def test_folders_may_be_nested_deeper_than_python_recurses(tmp_path):
    make(tmp_path, *PAIRS, "cat/" + 200 * "d/" + "3")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert len(load_dataset(tmp_path).images) == 5
    finally:
        sys.setrecursionlimit(limit)


def test_walk_lists_a_folder_that_is_gone_as_skipped(tmp_path):
    skipped = []
    assert list(walk(tmp_path / "gone", skipped)) == []
    assert skipped == [(str(tmp_path / "gone"), "the folder cannot be read: No such file or directory")]


# ---- train, validation and test folders


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALID", "Testing"), ("train", "validation", "dev")]
)
def test_split_folders_by_any_of_their_names(names, tmp_path):
    make(tmp_path, *(f"{part}/{pair}" for part in names for pair in PAIRS))
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    expected = {"train": "train", "training": "train", "test": "test", "testing": "test"}
    for image, split in zip(found(dataset, tmp_path), splits_of(dataset), strict=True):
        assert split == expected.get(image.split("/")[0].casefold(), "validation")


@pytest.mark.parametrize("given_parts", [("train",), ("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_a_missing_split_is_made_from_train(given_parts, tmp_path):
    make(tmp_path, *(f"{part}/{label}/{i}" for part in given_parts for label in ("cat", "dog") for i in range(25)))
    dataset = load_dataset(tmp_path)
    digests = [hashlib.sha256(Path(image).read_bytes()).digest() for image in dataset.images]
    splits = assign_splits(dataset.splits, digests, dataset.labels, seed=0, validation=0.2, test=0.2)
    assert set(splits) == {TRAIN, VALIDATION, TEST}
    for image, split in zip(found(dataset, tmp_path), splits, strict=True):
        part = image.split("/")[0]
        assert part == "train" or split == {"val": VALIDATION, "test": TEST}[part]
    if "test" in given_parts:
        assert (splits == TEST).sum() == 50


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, "train/1", "train/2", "bus/1", "bus/2")
    assert load_dataset(tmp_path).classes == ("bus", "train")
    make(tmp_path, "train/steam/3", "test/1", "test/2")
    assert load_dataset(tmp_path).classes == ("bus", "test", "train")


def test_a_folder_beside_split_folders_makes_them_no_classes(tmp_path):
    make(tmp_path, *(f"{part}/{pair}" for part in ("train", "test") for pair in PAIRS), "docs/1", "docs/2", "license.txt")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert {(os.path.basename(path), reason) for path, reason in dataset.skipped} == {
        ("docs", "it is none of the train, validation and test folders"),
        ("license.txt", "it is in no class's folder"),
    }


def test_test_photos_without_classes_are_told_and_test_is_made_from_train(tmp_path):
    dataset = load_dataset(make(tmp_path, *(f"train/{pair}" for pair in PAIRS), "test/1.jpg", "test/2.jpg"))
    assert splits_of(dataset) == ["train"] * 4
    assert [os.path.basename(s.path) for s in dataset.skipped] == ["1.jpg", "2.jpg"]


def test_split_folders_without_train(tmp_path):
    make(tmp_path, *(f"{part}/{pair}" for part in ("val", "test") for pair in PAIRS))
    message = refused(tmp_path)
    assert "test, val but no train folder" in message and "train/CLASS/photo.jpg" in message


def test_split_folders_without_classes(tmp_path):
    message = refused(make(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg"))
    assert "holds no images in folders; 3 files lie in no class's folder" in message


# ---- what cannot be learnt from


def test_no_such_path(tmp_path):
    make(tmp_path, "photos/cat/1")
    assert f"there is no {tmp_path / 'fotos'}; did you mean {tmp_path / 'photos'}?" == refused(tmp_path / "fotos")
    assert refused(tmp_path / "xyz") == f"there is no {tmp_path / 'xyz'}"
    assert f"its folder {tmp_path / 'no'} does not exist either" in refused(tmp_path / "no" / "photos")
    assert "there is no" in refused("photos\0")
    assert "there is no" in refused("x" * 5000)
    assert "there is no" in refused("")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert "there is no" in refused(tmp_path / "dangling")


def test_no_images(tmp_path):
    assert "holds no images in folders; expected a folder per class, as in photos/daisy/1.jpg" in refused(tmp_path)
    make(tmp_path, "1.jpg", "2.jpg")
    assert "2 files lie in no class's folder" in refused(tmp_path)
    make(tmp_path, "labels.csv")
    assert f"did you mean {tmp_path / 'labels.csv'}?" in refused(tmp_path)


def test_only_empty_folders(tmp_path):
    assert "cat: the folder holds no images" in refused(make(tmp_path, "cat/", "dog/.hidden"))


def test_one_class_only(tmp_path):
    assert "has one class only, 'cat'; a classifier needs at least two" in refused(make(tmp_path, "cat/1", "cat/2"))


def test_one_folder_too_high(tmp_path):
    message = refused(make(tmp_path, *(f"flower photos/{pair}" for pair in PAIRS)))
    assert f"did you mean {tmp_path / 'flower photos'}?" in message


def test_a_class_with_a_single_image_is_one_where_another_has_more(tmp_path):
    assert load_dataset(make(tmp_path / "one", *PAIRS, "bird/1")).classes == ("bird", "cat", "dog")
    assert "a single image of each class, so nothing is left to judge by" in refused(
        make(tmp_path / "all", "cat/1", "dog/1")
    )


def test_classes_are_checked_again_when_images_were_left_out():
    check_classes(np.array([0, 0, 1]), ("cat", "dog"), "here")
    for labels, classes in (([], ("cat", "dog")), ([0, 0], ("cat",)), ([0, 1], ("cat", "dog"))):
        with pytest.raises(DataError, match="^here"):
            check_classes(np.array(labels, np.int64), classes, "here")


@pytest.mark.parametrize("name", ["photos.zip", "1.jpg", "table.xlsx", "photos"])
def test_a_file_that_is_no_table(name, tmp_path):
    message = refused(make(tmp_path, name) / name)
    assert "is a file; expected a folder with a folder per class, or a table (.csv, .tsv, .parquet)" in message
    assert "an archive must be unpacked first" in message


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets in folders")
def test_what_is_neither_a_file_nor_a_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "pipe cannot be read: Not a directory" in refused(tmp_path / "pipe")


# ---- CSV


def table(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    make(path.parent, *PAIRS)
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


ROWS = ("cat/1,cat", "cat/2,cat", "dog/1,dog", "dog/2,dog")


@pytest.mark.parametrize(
    "lines",
    [
        ("path,label", *ROWS),
        ("image,label", *ROWS),
        ("file_name,class", *ROWS, ""),
        ("PATH, Label", *(row.replace(",", ", ") for row in ROWS)),
        ('"path","label"', '"cat/1","cat"', '"cat/2",cat', "dog/1,dog", '"dog/2","dog"'),
        ("path;label", *(row.replace(",", ";") for row in ROWS)),
        ("path\tlabel", *(row.replace(",", "\t") for row in ROWS)),
        ("id,label,note,path", *(f'7,{row.split(",")[1]},"a, b",{row.split(",")[0]}' for row in ROWS)),
        ("label,path", *(",".join(reversed(row.split(","))) for row in ROWS)),
        ("\ufeffpath,label", *ROWS),
        ("path,label\r", *(row + "\r" for row in ROWS)),
        ("path,label", *ROWS, ",", " , ", "", ""),
        ("path,label,split", *(row + "," for row in ROWS)),
        ("path,label,split", *ROWS),
    ],
    ids=lambda lines: repr(lines[0] + " / " + lines[-1]),
)
def test_csv_as_it_is_found_in_the_world(lines, tmp_path):
    dataset = load_dataset(table(tmp_path / "photos.csv", *lines))
    assert found(dataset, tmp_path) == {name: name[:3] for name in PAIRS}
    assert splits_of(dataset) == [""] * 4


def test_paths_are_relative_to_the_table_or_absolute(tmp_path, monkeypatch):
    lines = [f"{tmp_path / 'cat' / '1'},cat", "../cat/2,cat", "../dog/1,dog", "./../dog/2,dog"]
    make(tmp_path, *PAIRS)
    make(tmp_path, "tables/")
    (tmp_path / "tables" / "photos.TSV").write_text("\n".join(["path,label", *lines]))
    monkeypatch.chdir("/")
    dataset = load_dataset(os.path.relpath(tmp_path / "tables" / "photos.TSV"))
    assert len(dataset.images) == 4 and all(os.path.exists(image) for image in dataset.images)


def test_a_split_column(tmp_path):
    rows = [f"{row},{split}" for row, split in zip(ROWS, ("train", "Val", "", "TEST"), strict=True)]
    dataset = load_dataset(table(tmp_path / "photos.csv", "path,label,Split", *rows))
    assert splits_of(dataset) == ["train", "validation", "", "test"]


def test_names_in_a_table_keep_their_characters(tmp_path):
    make(tmp_path, 'a "b", [c] 🐈.jpg', "2", "3", "4")
    with (tmp_path / "photos.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("path", "label"), ('a "b", [c] 🐈.jpg', "Cat"), ("2", "Cat"), ("3", "cat"), ("4", "cat")]
        )
    dataset = load_dataset(tmp_path / "photos.csv")
    assert dataset.classes == ("Cat", "cat")
    assert 'a "b", [c] 🐈.jpg' in found(dataset, tmp_path)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), "photos.csv has no column path or image; its columns: none"),
        (("path,label",), "photos.csv holds no images"),
        (("file,name", "cat/1,cat"), "has no column label or class; its columns: file, name"),
        (("label", "cat"), "has no column path or image; its columns: label"),
        (("path,label,label", "cat/1,cat,dog"), "has 2 columns called label"),
        (("path,Path ,label", "cat/1,cat/2,cat"), "has 2 columns called path"),
        (("path,label,split,SPLIT", "cat/1,cat,train,test"), "has 2 columns called split"),
        (("path,label", *ROWS, ",cat"), "1 of 5 rows of PHOTOS have a label but no image: 'line 6'"),
        (
            ("path,label", *ROWS, "dog/1", "dog/2,"),
            "2 of 6 rows of PHOTOS have an image but no label: 'line 6' and 'line 7'",
        ),
        (("path,label", *ROWS[:2]), "has one class only, 'cat'"),
        (("path,label", ROWS[0], ROWS[2]), "PHOTOS has a single image of each class"),
        (("path,label,split", *(row + ",holdout" for row in ROWS)), "has the unknown split 'holdout'; known: train"),
        (("path,label,split", *(row + ",test" for row in ROWS)), "every row is in the validation or test split"),
        (("path,label", *ROWS, "cat/\0,cat"), "names 1 files that do not exist"),
        (("path,label", *ROWS, f"cat/1,{'x' * 200_000}"), "cannot be read: field larger than field limit"),
    ],
)
def test_csv_that_cannot_be_learnt_from(lines, expected, tmp_path):
    path = table(tmp_path / "photos.csv", *lines)
    assert expected.replace("PHOTOS", str(path)) in refused(path)


def test_csv_names_the_files_that_do_not_exist(tmp_path):
    path = table(tmp_path / "photos.csv", "path,label", *ROWS, *(f"cat/no {i},cat" for i in range(7)))
    missing = ", ".join(repr(str(tmp_path / "cat" / f"no {i}")) for i in range(3))
    assert f"names 7 files that do not exist: {missing} and 4 more; a path is relative to the table's folder" in refused(
        path
    )


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_csv_in_another_encoding(encoding, tmp_path):
    path = table(tmp_path / "photos.csv", "path,label", "größe,cat", *ROWS, encoding=encoding)
    assert "cannot be read: 'utf-8' codec" in refused(path) and "expected text in UTF-8" in refused(path)


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_bytes_called_csv_are_data_or_a_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for start in (b"", b"path,label\n"):
        path.write_bytes(start + content)
        assert refused(path)


def test_an_endless_number_as_a_label(tmp_path):
    path = table(tmp_path / "photos.csv", "path,label", "cat/1,1", "cat/2,1", *(f"dog/{i},{'1' * 5000}" for i in (1, 2)))
    assert load_dataset(path).classes == ("1", "1" * 5000)


# ---- Parquet


def parquet(path: Path, /, *, metadata: dict | None = None, row_group_size: int | None = None, **columns) -> Path:
    make(path.parent, *PAIRS)
    content = pa.table(columns)
    if metadata:
        content = content.replace_schema_metadata(metadata)
    pq.write_table(content, path, row_group_size=row_group_size)
    return path


def class_label(*names: str) -> dict[bytes, bytes]:
    """The metadata in which Hugging Face's datasets keep the names of whole-number labels."""
    return {b"huggingface": json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}).encode()}


LABELS = ["cat", "cat", "dog", "dog"]
BYTES = [f"bytes of {i}".encode() for i in range(4)]


@pytest.mark.parametrize("column", ["path", "image", "Image", "file_name"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_with_paths(column, kind, tmp_path):
    path = parquet(tmp_path / "photos.parquet", **{column: pa.array(PAIRS, kind), "label": LABELS})
    assert found(load_dataset(path), tmp_path) == {name: name[:3] for name in PAIRS}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary(), "path": pa.string()})])
@pytest.mark.parametrize("row_group_size", [None, 1, 3])
def test_parquet_with_bytes(kind, row_group_size, tmp_path):
    values = [{"bytes": b, "path": None} for b in BYTES] if pa.types.is_struct(kind) else BYTES
    images = pa.array(values, kind)
    path = parquet(tmp_path / "photos.parquet", image=images, label=LABELS, row_group_size=row_group_size)
    dataset = load_dataset(path)
    assert dataset.classes == ("cat", "dog")
    assert all(isinstance(image, TableImage) for image in dataset.images)
    assert [image.read() for image in dataset.images] == BYTES
    assert [image.read() for image in reversed(dataset.images)] == BYTES[::-1]
    assert display_name(dataset.images[3]) == f"{path}#3"


def test_parquet_whose_structs_hold_paths_or_nothing(tmp_path):
    png = b"\x89PNG\r\n\x1a\n and so on"
    make(tmp_path, "x/")
    (tmp_path / "x" / "photo").write_bytes(png)
    rows = [{"bytes": None, "path": "x/photo"}, {"bytes": None, "path": "gone"}, {"bytes": b"", "path": None}, None]
    images = load_dataset(parquet(tmp_path / "photos.parquet", image=rows, label=LABELS)).images
    answers = [image.read() for image in images]
    assert answers[0] == png
    assert [a.status for a in answers[1:]] == ["missing", "empty", "empty"]


def test_parquet_takes_the_names_of_numbers_from_hugging_face(tmp_path):
    names = class_label("Zebra", "ant")
    dataset = load_dataset(parquet(tmp_path / "photos.parquet", image=BYTES, label=[0, 1, 1, 0], metadata=names))
    assert dataset.classes == ("ant", "Zebra")
    assert [dataset.classes[i] for i in dataset.labels] == ["Zebra", "ant", "ant", "Zebra"]
    for label in (-1, 2, None):
        path = parquet(tmp_path / "photos.parquet", image=BYTES, label=[0, 1, 1, label], metadata=names)
        assert "1 of 4 rows" in refused(path) and "have an image but no label: 'row 4'" in refused(path)


@pytest.mark.parametrize(
    "metadata", [{b"huggingface": b"{"}, {b"huggingface": b"[]"}, {b"huggingface": b'{"info": 3}'}, None]
)
def test_parquet_with_numbers_without_names(metadata, tmp_path):
    path = parquet(tmp_path / "photos.parquet", image=BYTES, label=[2, 10, 10, 2], metadata=metadata)
    assert load_dataset(path).classes == ("2", "10")


def test_parquet_with_a_split_column(tmp_path):
    path = parquet(tmp_path / "test.parquet", image=BYTES, label=LABELS, split=["train", " Dev", None, "test"])
    assert splits_of(load_dataset(path)) == ["train", "validation", "", "test"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.parquet", "test.parquet"), {"train", "test"}),
        (("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"), {"train"}),
        (("cifar10_train.parquet", "cifar10_validation.parquet"), {"train", "validation"}),
        (("a.parquet", "b.parquet"), {""}),
        (("train_and_test.parquet", "b.parquet"), {""}),
    ],
)
def test_a_folder_of_parquet_files(names, splits, tmp_path):
    for name in names:
        parquet(tmp_path / name, image=BYTES, label=LABELS)
    make(tmp_path, ".hidden.parquet", "folder.parquet/x")
    dataset = load_dataset(tmp_path)
    assert len(dataset.images) == 8
    assert set(splits_of(dataset)) == splits


def test_one_parquet_file_is_learnt_from_whatever_it_is_called(tmp_path):
    assert splits_of(load_dataset(parquet(tmp_path / "test.parquet", image=BYTES, label=LABELS))) == [""] * 4


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": LABELS}, "has no column image or path; its columns: label"),
        ({"image": BYTES, "name": LABELS}, "has no column label or class; its columns: image, name"),
        ({"image": BYTES, "label": LABELS, "Label": LABELS}, "has 2 columns called label"),
        ({"image": [[1], [2], [3], [4]], "label": LABELS}, "the column image of PHOTOS holds list"),
        ({"image": [1, 2, 3, 4], "label": LABELS}, "holds int64; expected paths, or the bytes of image files"),
        ({"image": BYTES, "label": LABELS, "split": [0, 0, 1, 1]}, "has the unknown split '0' and '1'"),
        ({"image": BYTES, "label": LABELS, "split": ["test"] * 4}, "has no image to learn from"),
        ({"path": ["cat/1", "cat/2", "no", "neither"], "label": LABELS}, "names 2 files that do not exist"),
        ({"path": ["cat/1", "cat/2", None, ""], "label": LABELS}, "have a label but no image: 'row 3' and 'row 4'"),
        ({"image": BYTES, "label": ["cat", "cat", "", None]}, "have an image but no label: 'row 3' and 'row 4'"),
        ({"image": BYTES[:0], "label": LABELS[:0]}, "holds"),
    ],
)
def test_parquet_that_cannot_be_learnt_from(columns, expected, tmp_path):
    path = parquet(tmp_path / "photos.parquet", **columns)
    assert expected.replace("PHOTOS", str(path)) in refused(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet(content, tmp_path):
    path = tmp_path / "photos.parquet"
    path.write_bytes(content)
    assert f"{path} is not a valid Parquet file" in refused(path)
    make(tmp_path, *PAIRS)
    assert f"{path} is not a valid Parquet file" in refused(tmp_path)


@given(position=st.floats(0, 1, exclude_max=True), noise=st.binary(min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_damaged_parquet_is_a_clear_error_or_failures(tmp_path_factory, position, noise):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    if not (intact := path.with_suffix(".intact")).exists():
        parquet(path, image=BYTES * 20, label=LABELS * 20).rename(intact)
    content = bytearray(intact.read_bytes())
    at = int(position * len(content))
    content[at : at + len(noise)] = noise
    path.write_bytes(content)
    try:
        images = load_dataset(path).images
    except DataError as error:
        assert "\n" not in str(error)
        return
    for image in images[:3]:
        answer = image.read() if isinstance(image, TableImage) else Failure("missing", image)
        assert isinstance(answer, bytes) or (answer.status and answer.reason)


def test_a_damaged_row_group_costs_its_own_images_only(tmp_path):
    path = parquet(tmp_path / "photos.parquet", image=BYTES, label=LABELS, row_group_size=2)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)
    answers = [image.read() for image in load_dataset(path).images]
    assert answers[:2] == BYTES[:2]
    assert [a.status for a in answers[2:]] == ["broken", "broken"]
    assert all("row group 1" in a.reason and "\n" not in a.reason for a in answers[2:])


def test_parquet_without_its_package_says_which_line_installs_it(tmp_path, monkeypatch):
    path = parquet(tmp_path / "photos.parquet", image=BYTES, label=LABELS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headstart\[parquet\]'"):
        load_dataset(path)


@pytest.mark.shared
def test_cifar10_as_hugging_face_has_it(shared):
    dataset = load_dataset(shared / "data" / "cifar10")
    assert len(dataset.images) == 60_000 and len(dataset.classes) == 10
    assert "airplane" in dataset.classes
    assert np.bincount(dataset.splits).tolist() == [50_000, 0, 10_000]
    assert dataset.images[-1].read()[:2] == b"\xff\xd8"


# ---- many


def many_files(root, n_each):
    """Ten classes of n files each, as links, which are made ten times faster."""
    for i in range(10):
        make(root / f"class {i}", "photo 0.jpg")
        for j in range(1, n_each):
            os.link(root / f"class {i}" / "photo 0.jpg", root / f"class {i}" / f"photo {j}.jpg")
    return root


@pytest.fixture
def asked(monkeypatch):
    """The paths that the system is asked about, one by one."""
    paths, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: (paths.append(path), stat(path, **options))[1])
    return paths


def test_a_listing_asks_about_folders_and_never_about_a_single_file(tmp_path, asked):
    """So that 100,000 files are listed in half a second, which is a line of benchmarks/speed.py."""
    n_asked = []
    for n_each in (2, 200):
        root = many_files(tmp_path / str(n_each), n_each)
        asked.clear()
        dataset = load_dataset(root)
        n_asked.append(len(asked))
        assert len(dataset.images) == 10 * n_each and len(dataset.classes) == 10
    assert n_asked[0] == n_asked[1] < 100


def test_a_table_is_read_once_and_asks_about_each_file_once(tmp_path, asked, monkeypatch):
    root = many_files(tmp_path / "photos", 50)
    dataset = load_dataset(root)
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *found(dataset, tmp_path).items()])
    opened, open_ = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *args, **options: (opened.append(path), open_(path, *args, **options))[1])
    asked.clear()
    again = load_dataset(tmp_path / "photos.csv")
    assert again.classes == dataset.classes and opened == [tmp_path / "photos.csv"]
    assert len(dataset.images) <= len(asked) < len(dataset.images) + 20


# ---- splits


def digest(content) -> bytes:
    return hashlib.sha256(str(content).encode()).digest()


def assigned(contents, labels, *, given_splits=None, seed=0, validation=0.1, test=0.2) -> np.ndarray:
    given_splits = np.full(len(contents), UNASSIGNED, np.int8) if given_splits is None else np.array(given_splits, np.int8)
    digests = [digest(c) for c in contents]
    return assign_splits(given_splits, digests, np.array(labels, np.int64), seed=seed, validation=validation, test=test)


def test_shares_are_met_on_average_in_every_class():
    labels = np.arange(30_000) % 3
    splits = assigned(range(30_000), labels)
    for label in range(3):
        shares = np.bincount(splits[labels == label], minlength=3) / 10_000
        assert np.abs(shares - (0.7, 0.1, 0.2)).max() < 0.02


def test_no_share_no_split():
    assert set(assigned(range(500), [0, 1] * 250, validation=0, test=0)) == {TRAIN}
    assert set(assigned(range(500), [0, 1] * 250, validation=0)) == {TRAIN, TEST}
    assert set(assigned(range(500), [0, 1] * 250, test=0)) == {TRAIN, VALIDATION}
    assert len(assigned([], [])) == 0


def test_another_seed_gives_other_splits_and_the_same_seed_the_same():
    labels = [0, 1] * 500
    splits = [assigned(range(1000), labels, seed=seed) for seed in (0, 0, 1, 2)]
    assert (splits[0] == splits[1]).all()
    for a, b in ((0, 2), (0, 3), (2, 3)):
        assert 0.25 < (splits[a] != splits[b]).mean() < 0.65


def test_larger_shares_only_add_to_the_test_split():
    labels = [0, 1] * 500
    small, large = (assigned(range(1000), labels, test=share) == TEST for share in (0.1, 0.3))
    assert large[small].all() and large.sum() > small.sum()


PHOTOS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 3)), unique_by=lambda photo: photo[0], min_size=1, max_size=40
)


def by_content(photos: list[tuple[int, int]], seed: int) -> dict[int, int]:
    contents, labels = zip(*photos, strict=True)
    return dict(zip(contents, assigned(contents, labels, seed=seed).tolist(), strict=True))


@given(photos=PHOTOS, others=PHOTOS, seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_adding_removing_and_reordering_images_moves_no_other_image(photos, others, seed, order):
    known = {content for content, _ in photos}
    more = photos + [photo for photo in others if photo[0] not in known]
    order.shuffle(more)
    before, after = by_content(photos, seed), by_content(more, seed)
    assert by_content(photos[::-1], seed) == before
    for content in before:
        if before[content] != after[content]:
            # The one exception: its class had nothing else to learn from, and has now (or had, and has no more).
            assert {before[content], after[content]} == {TRAIN, TEST}
            alone, where = (photos, before) if before[content] == TRAIN else (more, after)
            label = dict(alone)[content]
            assert [c for c, other in alone if other == label and where[c] != TEST] == [content]


def test_relabelling_moves_no_image():
    labels = np.arange(300) % 3
    assert (assigned(range(300), labels) == assigned(range(300), labels[::-1] % 2)).all()


@settings(max_examples=60)
@given(photos=PHOTOS, copies=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 3)), max_size=20), seed=st.integers(0, 9))
def test_images_of_the_same_bytes_share_a_split_whatever_their_labels(photos, copies, seed):
    together = photos + [(photos[i % len(photos)][0], label) for i, label in copies]
    contents, labels = zip(*together, strict=True)
    splits = assigned(contents, labels, seed=seed, test=0.5)
    assert len({(c, s) for c, s in zip(contents, splits.tolist(), strict=True)}) == len(set(contents))
    assert len(leaks(splits, [digest(c) for c in contents])) == 0


@settings(max_examples=60)
@given(photos=PHOTOS, seed=st.integers(0, 9), test=st.floats(0, 0.95))
def test_every_class_keeps_something_to_learn_from(photos, seed, test):
    contents, labels = zip(*photos, strict=True)
    splits = assigned(contents, labels, seed=seed, test=test, validation=0.04)
    assert set(np.array(labels)[splits != TEST]) == set(labels)


@settings(max_examples=60)
@given(
    photos=PHOTOS,
    splits=st.lists(st.sampled_from([UNASSIGNED, TRAIN, VALIDATION, TEST]), min_size=40, max_size=40),
    seed=st.integers(0, 9),
)
def test_given_splits_are_honoured_and_only_train_gives_what_is_missing(photos, splits, seed):
    contents, labels = zip(*photos, strict=True)
    before = np.array(splits[: len(photos)])
    after = assigned(contents, labels, given_splits=before, seed=seed, validation=0.3, test=0.3)
    assert set(after) <= {TRAIN, VALIDATION, TEST}
    for given_split in (VALIDATION, TEST):
        assert (after[before == given_split] == given_split).all()
        if (before == given_split).any():
            assert not ((after == given_split) & (before != given_split)).any()


def test_splits_that_are_all_given_change_nothing():
    before = [TRAIN, VALIDATION, TEST, TRAIN] * 20
    assert assigned(range(80), [0, 1] * 40, given_splits=before).tolist() == before


def test_leaks_are_what_is_learnt_from_and_tested_with():
    digests = [digest(c) for c in "abacbdd"]
    splits = np.array([TRAIN, TRAIN, TEST, TRAIN, VALIDATION, TEST, TEST])
    assert leaks(splits, digests).tolist() == [0]
    assert leaks(splits[:0], []).tolist() == []


def test_contradictions_are_identical_images_with_different_labels():
    assert contradictions(np.array([0, 0, 1, 1, 2, 0]), [digest(c) for c in "aabbba"]) == [[2, 3, 4]]
    assert contradictions(np.array([0, 1, 2]), [digest(c) for c in "aaa"]) == [[0, 1, 2]]
    assert contradictions(np.array([], np.int64), []) == []


def test_a_folder_with_a_single_file_that_is_no_image_is_no_class(tmp_path):
    make(tmp_path, *PAIRS, "notes/")
    (tmp_path / "notes" / "read me.txt").write_text("words")
    dataset = load_dataset(tmp_path)
    assert "notes" not in dataset.classes
    assert [Path(path).name for path, _ in dataset.skipped] == ["read me.txt", "notes"]
