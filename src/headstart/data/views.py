"""Views (augmentation): an image mirrored, rotated, cropped, brightened ..., as more photos to learn from.

Takes the square that a backbone sees, gives another one of the same shape. It decides what may be drawn at random and how
far; what is drawn depends on the image's content, the view and the seed alone, so that codes of views can be stored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from headstart.data.decoding import Failure, ImageSource
from headstart.data.images import Preprocess, display_name, load_image
from headstart.data.tables import content_of, digest_of
from headstart.errors import DataError, HeadstartError

if TYPE_CHECKING:
    from PIL import Image


AUGMENT_VERSION = 1  # raise it when a view gives other pixels than before: all codes of views are then computed anew
ORIGINAL = "original"
Draw: TypeAlias = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(height, width, 3) uint8 RGB pixels, the amount and where chance comes from, to pixels of the same shape."""


@dataclass(frozen=True)
class DrawnViews:
    """Views of an image, and the seed of what is random in them."""

    names: tuple[str, ...] = (ORIGINAL,)
    seed: int = 0

    def keys(self) -> list[str]:
        """What the codes of each are stored under."""
        return [view_key(name, self.seed) for name in self.names]


@dataclass(frozen=True)
class ViewKind:
    """One way of making views: a row of VIEWS.

    default, least, most: its amount, in `unit`; None where it has none, and then nothing is left to chance either.
    sentence: what it does, with {} for the amount.
    """

    name: str
    default: float | None
    least: float | None
    most: float | None
    unit: str
    sentence: str
    draw: Draw

    @property
    def is_random(self) -> bool:
        """Whether the same image can give several different views of this kind."""
        return self.default is not None

    def range_text(self) -> str:
        """The amounts that it takes, for people."""
        return f"{self.least:g} to {self.most:g} {self.unit}" if self.is_random else "no amount"


# ---- functions of pixels


def _mirror(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


def _flip(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(pixels[::-1])


def _rotate(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    angle = math.radians(rng.uniform(-amount, amount))
    cos, sin = math.cos(angle), math.sin(angle)
    return _warp(pixels, np.array([[cos, -sin], [sin, cos]]))


def _crop(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    share = 1 - amount / 100
    height, width = pixels.shape[:2]
    x, y = rng.uniform(-0.5, 0.5, 2) * (1 - share)
    return _warp(pixels, np.eye(2) * share, (x * width, y * height))


def _zoom(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    most = math.log1p(amount / 100)
    return _warp(pixels, np.eye(2) * math.exp(rng.uniform(-most, most)))


def _shear(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return _warp(pixels, np.array([[1.0, math.tan(math.radians(rng.uniform(-amount, amount)))], [0.0, 1.0]]))


def _change_brightness(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return _stretch_values(pixels, _factor(amount, rng), 0.0)


def _change_contrast(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return _stretch_values(pixels, _factor(amount, rng), float(pixels.mean()))


def _change_colour(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Scale and rotate the chroma plane of YIQ, at the same brightness: both are linear, so that they are one matrix."""
    import cv2

    factor = _factor(amount, rng)
    angle = math.radians(rng.uniform(-amount, amount) / 100 * HUE_DEGREES)
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    turned = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return cv2.transform(pixels, np.linalg.inv(YIQ) @ turned @ YIQ)


YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # from RGB (NTSC 1953)
HUE_DEGREES = 36.0  # at 100 %: a tenth of the circle, which is as far as orange is from yellow-green


def _factor(amount: float, rng: np.random.Generator) -> float:
    return 1 + rng.uniform(-amount, amount) / 100


def _stretch_values(pixels: np.ndarray, factor: float, around: float) -> np.ndarray:
    """Move every value away from, or nearer to, one value that stays."""
    import cv2

    values = (np.arange(256) - around) * factor + around
    return cv2.LUT(pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _warp(pixels: np.ndarray, matrix: np.ndarray, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Look up each pixel (x, y), seen from the centre, at matrix @ (x, y) + shift of the picture, in pixels.

    What lies outside is filled by reflection: a black corner is an edge and a colour that no photo has, and a backbone
    answers to it in every rotated view alike; a reflection looks like more of the same.
    """
    import cv2

    height, width = pixels.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + shift - matrix @ centre
    return cv2.warpAffine(
        pixels,
        np.column_stack([matrix, offset]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,  # REFLECT_101 never returns where an image is one pixel wide (OpenCV 5.0)
    )


# Defaults are what changes a photo visibly and leaves its label alone; which of them pay is for held-out data to say.
VIEWS = {
    kind.name: kind
    for kind in (
        ViewKind("mirrored", None, None, None, "", "left and right exchanged", _mirror),
        ViewKind("upside-down", None, None, None, "", "top and bottom exchanged, for what has no up", _flip),
        ViewKind("rotation", 15, 1, 180, "degrees", "turned by up to {}, either way", _rotate),
        ViewKind("crop", 15, 1, 75, "%", "{} of each side cut away, somewhere", _crop),
        ViewKind("zoom", 20, 1, 100, "%", "larger or smaller by up to {}, the centre stays", _zoom),
        ViewKind("shear", 10, 1, 45, "degrees", "slanted by up to {}, either way", _shear),
        ViewKind("brightness", 25, 1, 90, "%", "brighter or darker by up to {}", _change_brightness),
        ViewKind("contrast", 30, 1, 90, "%", "more or less contrast by up to {}", _change_contrast),
        ViewKind("colour", 40, 1, 100, "%", "stronger or paler colours by up to {}, their hue a little off", _change_colour),
    )
}


# ---- their names


@dataclass(frozen=True)
class View:
    """A kind of view with its amount; `str` gives the one way of writing it: `mirrored`, `rotation=15`.

    Raises HeadstartError for a kind that is not in VIEWS, and for an amount that the kind does not take.
    """

    name: str
    amount: float | None = None

    def __post_init__(self) -> None:
        kind = VIEWS.get(self.name)
        if kind is None:
            raise HeadstartError(f"there is no view {self.name!r}{_suggest_view(self.name)}; the views: {', '.join(VIEWS)}")
        if self.amount is None:
            object.__setattr__(self, "amount", kind.default)
            return
        if kind.least is None or kind.most is None:
            raise HeadstartError(f"the view {self.name} takes no amount; write {self.name} alone")
        if not kind.least <= self.amount <= kind.most:
            raise HeadstartError(f"the view {self}: the amount is out of range; expected {kind.range_text()}")
        object.__setattr__(self, "amount", float(f"{self.amount:g}"))  # what is written is what is done

    def __str__(self) -> str:
        return self.name if self.amount is None else f"{self.name}={self.amount:g}"

    def sentence(self) -> str:
        """What it does, for people: `turned by up to 15 degrees, either way`."""
        kind = VIEWS[self.name]
        return kind.sentence.format(f"{self.amount:g} {kind.unit}" if kind.is_random else "")


def parse_views(text: str) -> tuple[View, ...]:
    """Read `mirrored,rotation=15,crop`; `none` gives none, and `original`, which is always learnt from, may be left out.

    Raises HeadstartError for what is no view, for an amount out of range and for a view that is named twice.
    """
    names = [part.strip().casefold() for part in text.split(",")]
    if names == ["none"]:
        return ()
    views = tuple(_parse_view(name) for name in names if name != ORIGINAL)
    for view in views:
        if views.count(view) > 1:
            raise HeadstartError(f"the view {view} stands twice in {text!r}; name each once")
    return views


def _parse_view(text: str) -> View:
    name, equals, amount = (part.strip() for part in text.partition("="))
    if not equals:
        return View(name)
    try:
        return View(name, float(amount))
    except ValueError:
        hint = f"; expected {VIEWS[name].range_text()}" if name in VIEWS else ""
        raise HeadstartError(f"the amount of the view {text!r} is no number{hint}, as in rotation=15") from None


def _suggest_view(name: str) -> str:
    matches = get_close_matches(name, VIEWS, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


# ---- the views of an image


def view_pixels(pixels: np.ndarray, view: str, digest: bytes, seed: int) -> np.ndarray:
    """Give a view of the (size, size, 3) uint8 RGB square that a backbone sees; the same for the same arguments always.

    view: as `str` of a View gives it, or `original`, which is the pixels themselves. digest: the image's sha256.
    """
    if view == ORIGINAL:
        return pixels
    parsed = _parse_view(view)
    entropy = hashlib.sha256(f"view {parsed} seed {seed} ".encode() + digest).digest()
    # PCG64 by its name: the default of NumPy may change, and with it every view.
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(entropy, "big")))
    return VIEWS[parsed.name].draw(pixels, parsed.amount or 0.0, rng)


def view_key(view: str, seed: int) -> str:
    """Name a view in the store of codes: with all that decides its pixels, and with nothing else."""
    if view == ORIGINAL:
        return ORIGINAL
    parsed = _parse_view(view)
    chance = f" seed {seed}" if VIEWS[parsed.name].is_random else ""
    return f"{parsed}{chance} version {AUGMENT_VERSION}"


# ---- a picture of them

MARGIN, HEADING, FONT_PIXELS = 8, 28, 17  # pixels


def views_grid(
    image: ImageSource, preprocess: Preprocess, views: Sequence[View] = (), *, n_columns: int = 6, seed: int = 0
) -> Image.Image:
    """Draw an image's views, a row each: the original first, then the view as training with this seed sees it, then others.

    views: all of VIEWS where none are given. n_columns: pictures in a row, two at least; a kind that leaves nothing to
    chance has two. Raises DataError for what is no image.
    """
    from PIL import Image, ImageDraw, ImageFont

    pixels, digest = _load_square(image, preprocess)
    views = views or tuple(View(name) for name in VIEWS)
    rows = [_draw_row(pixels, view, digest, n_columns, seed) for view in views]
    height, width = preprocess.size + MARGIN + HEADING, preprocess.size + MARGIN
    canvas = Image.new("RGB", (MARGIN + width * max(2, *map(len, rows)), HEADING + height * len(rows)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_PIXELS)

    def write(text: str, column: int, top: int, colour: str) -> None:
        pen.text((MARGIN + column * width, top + HEADING / 2), text, colour, font, anchor="lm")

    for j in range(max(map(len, rows))):
        write("original" if j == 0 else f"seed {seed + j - 1}", j, 0, "grey")
    for i, (view, row) in enumerate(zip(views, rows, strict=True)):
        top = HEADING + i * height
        write(f"{view}: {view.sentence()}", 0, top, "black")
        for j, picture in enumerate(row):
            canvas.paste(Image.fromarray(picture), (MARGIN + j * width, top + HEADING))
    return canvas


def _draw_row(pixels: np.ndarray, view: View, digest: bytes, n_columns: int, seed: int) -> list[np.ndarray]:
    n_draws = max(1, n_columns - 1) if VIEWS[view.name].is_random else 1
    return [pixels, *(view_pixels(pixels, str(view), digest, seed + i) for i in range(n_draws))]


def _load_square(image: ImageSource, preprocess: Preprocess) -> tuple[np.ndarray, bytes]:
    """Load the square that a backbone sees, and the image's sha256, by which training draws its views."""
    content = content_of(image)
    pixels = content if isinstance(content, Failure) else load_image(content, preprocess)
    if isinstance(pixels, Failure):
        raise DataError(f"{display_name(image)} cannot be used as an image: {pixels.reason}")
    return pixels, digest_of(content)
