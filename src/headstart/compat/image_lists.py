"""Lists a folder of photos as retrain.py did: a label for each folder, and which split a photo is in, by a hash.

Takes a folder with a folder per class; gives labels, photos and splits. It decides which photos share a split (those whose
names begin alike before `_nohash_`), and that a folder's place decides nothing; with `path` it does, as in the old script.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.formats import HEADER_BYTES, is_image
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.errors import DataError
from headstart.wording import listed

MOST_OF_CLASS = 2**27 - 1  # retrain.py's MAX_NUM_IMAGES_PER_CLASS
FEW = 20  # photos of a class, below which retrain.py warned
NAME, PATH = "name", "path"  # what the split is by
SPLIT_BY = (NAME, PATH)


@dataclass(frozen=True)
class ImageList:
    """Photos of a folder, class by class.

    labels: names of the classes, sorted by their folders. folders: of each class. paths: of the photos. of_image: the class
    of each. splits: positions in data.splits.SPLITS.
    """

    labels: tuple[str, ...]
    folders: tuple[str, ...]
    paths: tuple[str, ...]
    of_image: tuple[int, ...]
    splits: tuple[int, ...]


def label_of(folder: str) -> str:
    """A folder's name as retrain.py cleaned it: lower case, and anything but letters of ASCII and digits a space."""
    return re.sub(r"[^a-z0-9]+", " ", folder.lower())


def split_of(name: str, *, testing: float, validation: float) -> int:
    """The split of a photo, by a name or a path; testing, validation: in percent. As in retrain.py, with SHA-1."""
    before = re.sub(r"_nohash_.*$", "", name)
    number = int(hashlib.sha1(before.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest(), 16)
    percentage = (number % (MOST_OF_CLASS + 1)) * (100.0 / MOST_OF_CLASS)
    if percentage < validation:
        return VALIDATION
    return TEST if percentage < testing + validation else TRAIN


def list_images(
    image_dir: str, *, testing: float, validation: float, split_by: str = NAME, warn: Callable[[str], None] = lambda _: None
) -> ImageList:
    """List the photos below a folder. warn: told of folders without photos, or with few.

    Raises DataError where there is no folder, fewer than two classes, or where two folders' names are cleaned to one label.
    """
    root = Path(image_dir)
    if not root.is_dir():
        raise DataError(f"Image directory '{image_dir}' not found.")
    if testing < 0 or validation < 0 or testing + validation >= 100:
        raise DataError(
            f"--testing_percentage {testing:g} and --validation_percentage {validation:g} leave nothing to learn from: "
            "together they must be below 100"
        )
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes: dict[str, str] = {}
    paths: list[str] = []
    of_image: list[int] = []
    splits: list[int] = []
    for folder in folders:
        files = _images_in(root / folder)
        if not files:
            warn(f"No files found in {folder!r}")
            continue
        label = label_of(folder)
        if label in classes:
            raise DataError(
                f"the folders {classes[label]!r} and {folder!r} are one label, {label!r}, once their names are cleaned as "
                "retrain.py did, which merged them: rename one of them"
            )
        if len(files) < FEW:
            warn(f"WARNING: Folder {folder!r} has less than {FEW} images, which may cause issues.")
        for file in files:
            # As the old script built it: os.path.join, of the folder as it was typed.
            name = os.path.join(image_dir, folder, file) if split_by == PATH else file
            paths.append(os.path.join(image_dir, folder, file))
            of_image.append(len(classes))
            splits.append(split_of(name, testing=testing, validation=validation))
        classes[label] = folder
    _check_classes(classes, of_image, splits, image_dir)
    return ImageList(tuple(classes), tuple(classes.values()), tuple(paths), tuple(of_image), tuple(splits))


def _images_in(folder: Path) -> list[str]:
    """Names of the photos, sorted: of every format that headstart reads, by content; the old script took *.jpg alone."""
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".") and _is_image(entry))


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_image(file.read(HEADER_BYTES))
    except OSError:
        return False


def _check_classes(classes: dict[str, str], of_image: Sequence[int], splits: Sequence[int], image_dir: str) -> None:
    if not classes:
        raise DataError(f"No valid folders of images found at {image_dir}")
    if len(classes) == 1:
        raise DataError(
            f"Only one valid folder of images found at {image_dir} - multiple classes are needed for classification."
        )
    learnt = {label for label, split in zip(of_image, splits, strict=True) if split == TRAIN}
    if empty := [folder for i, folder in enumerate(classes.values()) if i not in learnt]:
        raise DataError(
            f"no photo of {listed(map(repr, empty))} is left to learn from, by the hash of its name: add photos, or lower "
            "--testing_percentage and --validation_percentage"
        )
