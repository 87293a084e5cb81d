"""A representation: the backbones, layers, mirror images and views by which photos become codes, and those codes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from headstart.backbones.backbone import FEW, MORE, SIZES, WHOLE, Backbone
from headstart.codes.compute import Codes, compute_codes
from headstart.codes.store import Store
from headstart.data.decoding import Failure
from headstart.data.images import display_name
from headstart.data.tables import ImageRef, TableImage, check_same
from headstart.data.views import ORIGINAL, DrawnViews
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from headstart.progress import Progress

MIRRORED = "mirrored"
MOST_ENLARGED = 5  # times, in each direction
N_MEASURED = 25  # photos


@dataclass(frozen=True)
class Representation:
    """How photos become the codes that a head is learnt from.

    backbones: one, or several whose codes are concatenated. n_layers: how many layers of each are read. is_mirrored: the
    codes of a photo and of its mirror image are averaged. views: those whose codes are learnt from, beside the photo's own.
    """

    backbones: tuple[Backbone, ...]
    n_layers: int = 1
    is_mirrored: bool = False
    views: tuple[str, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """How many codes each layer of each backbone has."""
        return tuple(width for backbone in self.backbones for width in backbone.widths[: self.n_layers])

    @property
    def members(self) -> tuple[tuple[int, int], ...]:
        """The codes that each member of a mean of heads reads, from where to where.

        They are of each backbone those of the last layer, of the last two, and of all layers.
        """
        members, start = [], 0
        for backbone in self.backbones:
            ends = list(accumulate(backbone.widths[: self.n_layers]))
            members += [(start, start + end) for end in dict.fromkeys((ends[0], *ends[1:2], ends[-1]))]
            start += ends[-1]
        return tuple(members)

    @property
    def name(self) -> str:
        """The names of the backbones, joined by +."""
        return "+".join(backbone.name for backbone in self.backbones)


def represent(
    images: Sequence[ImageRef],
    representation: Representation,
    store: Store | None,
    *,
    seed: int = 0,
    with_stats: bool = False,
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Codes:
    """Compute every image's codes in a representation: values (m, d), or (m, 1 + n_views, d), the image itself first.

    seed: of the views. with_stats: measure the images' statistics in the same visit, for the store. Raises DataError where
    an image can be used with one backbone or view and not with another.
    """
    kept = (ORIGINAL, MIRRORED) if representation.is_mirrored else (ORIGINAL,)
    codes = _codes_of_views(images, representation, DrawnViews(kept, seed), store, with_stats, hardware, progress)
    if not representation.views:
        return codes
    views = []
    for view in representation.views:
        other = _codes_of_views(images, representation, DrawnViews((view,), seed), store, False, hardware, progress)
        views.append(_check_same_images(codes, other, images))
    n_computed = codes.n_computed + sum(codes.n_computed for codes in views)
    return replace(codes, values=np.stack([codes.values, *(codes.values for codes in views)], axis=1), n_computed=n_computed)


def _codes_of_views(
    images: Sequence[ImageRef],
    representation: Representation,
    views: DrawnViews,
    store: Store | None,
    with_stats: bool,
    hardware: Hardware,
    progress: Progress,
) -> Codes:
    """Compute codes averaged over views, of all the backbones, concatenated in their order."""
    codes_of_each: list[Codes] = []
    for backbone in representation.backbones:
        codes = compute_codes(
            images,
            backbone,
            store,
            views=views,
            is_deep=representation.n_layers > 1,
            with_stats=with_stats and not codes_of_each,
            hardware=hardware,
            progress=progress,
        )
        widths = codes.widths[: representation.n_layers]
        codes_of_each.append(replace(codes, values=codes.values[:, : sum(widths)], widths=widths))
    first = codes_of_each[0]
    if len(codes_of_each) == 1:
        return first
    return replace(
        first,
        values=np.concatenate([_check_same_images(first, codes, images).values for codes in codes_of_each], axis=1),
        widths=tuple(width for codes in codes_of_each for width in codes.widths),
        n_computed=sum(codes.n_computed for codes in codes_of_each),
    )


def _check_same_images(first: Codes, second: Codes, images: Sequence[ImageRef]) -> Codes:
    """Give the second codes; raises DataError where they are of other images than the first."""
    odd = sorted(set(first.index.tolist()) ^ set(second.index.tolist()))
    if odd:
        raise DataError(f"{display_name(images[odd[0]])} could not be read again while its codes were computed; start again")
    check_same([images[i] for i in first.index], first.digests, second.digests, "their codes were computed")
    return second


def pixels_for(images: Sequence[ImageRef], size: int) -> str:
    """Choose how a backbone takes the whole photo: in MORE pixels; of photos less than half as large as its own size, in as
    many (WHOLE); of tiny ones, such as CIFAR's, in FEW, for nothing is gained by enlarging them more than five times.

    Decides by the median of a few photos, evenly spread. size: pixels a side of the backbone's images.
    """
    sample = [images[i] for i in np.linspace(0, len(images) - 1, min(len(images), N_MEASURED)).astype(int)]
    sides = [side for image in sample if (side := _shorter_side(image))]
    median = float(np.median(sides)) if sides else float("inf")
    return FEW if MOST_ENLARGED * median <= SIZES[FEW] else WHOLE if 2 * median < size else MORE


def _shorter_side(image: ImageRef) -> int | None:
    from PIL import Image

    source = image.read() if isinstance(image, TableImage) else image
    if isinstance(source, np.ndarray):
        return int(min(source.shape[:2]))
    if isinstance(source, Image.Image):
        return int(min(source.size))
    if isinstance(source, Failure):
        return None
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            return int(min(opened.size))
    except (OSError, ValueError, AttributeError, Image.DecompressionBombError):  # a format that Pillow does not know, say
        return None
