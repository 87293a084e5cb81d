"""Looks: how photos become the codes that a head is learnt from; a value, and the codes that it stands for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.backbones.backbone import MORE, WHOLE, Backbone
from headstart.codes.compute import Codes, compute_codes
from headstart.codes.store import Store
from headstart.data.decoding import Failure
from headstart.data.images import display_name
from headstart.data.tables import ImageRef, TableImage, check_same
from headstart.data.views import ORIGINAL
from headstart.engines.hardware import Hardware
from headstart.errors import DataError
from headstart.progress import Progress

MIRRORED = "mirrored"
N_MEASURED = 25  # photos


@dataclass(frozen=True)
class Representation:
    """How photos become the codes that a head is learnt from.

    backbones: one, or several side by side. depth: how many layers of each are read. is_mirrored: the codes of a photo and
    of its mirror image are averaged. views: of which codes are learnt from beside those of the photo itself.
    """

    backbones: tuple[Backbone, ...]
    depth: int = 1
    is_mirrored: bool = False
    views: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[int, ...]:
        """How many codes are of each layer."""
        return tuple(width for backbone in self.backbones for width in backbone.widths[: self.depth])

    @property
    def name(self) -> str:
        """Of its backbones."""
        return "+".join(backbone.name for backbone in self.backbones)


def represent(
    images: Sequence[ImageRef],
    look: Representation,
    store: Store | None,
    *,
    seed: int = 0,
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Codes:
    """Give every image's codes as a look has them: values (m, d), or (m, 1 + n_views, d), the image itself first.

    seed: of the views. Raises DataError where an image can be used with one backbone or view and not with another.
    """
    looked = _beside(images, look, ORIGINAL, store, seed, hardware, progress)
    values, n_computed = looked.values, looked.n_computed
    if look.is_mirrored:
        mirrored = _same(looked, _beside(images, look, MIRRORED, store, seed, hardware, progress), images)
        values, n_computed = _mean(values, mirrored.values), n_computed + mirrored.n_computed
    if look.views:
        views = [_same(looked, _beside(images, look, v, store, seed, hardware, progress), images) for v in look.views]
        values = np.stack([values, *(codes.values for codes in views)], axis=1)
        n_computed += sum(codes.n_computed for codes in views)
    return replace(looked, values=values, n_computed=n_computed)


def _beside(
    images: Sequence[ImageRef],
    look: Representation,
    view: str,
    store: Store | None,
    seed: int,
    hardware: Hardware,
    progress: Progress,
) -> Codes:
    """One view's codes of all the backbones, those of each backbone after those of the one before."""
    looked = []
    for backbone in look.backbones:
        is_deep = look.depth > 1
        codes = compute_codes(
            images, backbone, store, view=view, seed=seed, is_deep=is_deep, hardware=hardware, progress=progress
        )
        wanted = codes.widths[: look.depth]
        looked.append(replace(codes, values=codes.values[:, : sum(wanted)], widths=wanted))
    first = looked[0]
    if len(looked) == 1:
        return first
    return replace(
        first,
        values=np.concatenate([_same(first, codes, images).values for codes in looked], axis=1),
        widths=tuple(width for codes in looked for width in codes.widths),
        n_computed=sum(codes.n_computed for codes in looked),
    )


def _same(first: Codes, second: Codes, images: Sequence[ImageRef]) -> Codes:
    """The second, if it is of the same images as the first."""
    odd = sorted(set(first.index.tolist()) ^ set(second.index.tolist()))
    if odd:
        raise DataError(f"{display_name(images[odd[0]])} could not be read again while its codes were computed; start again")
    check_same([images[i] for i in first.index], first.digests, second.digests, "their codes were computed")
    return second


def _mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of (n, d) float16 codes, a thousand rows at a time: all of them in float32 would be twice as large."""
    mean = np.empty_like(a)
    for start in range(0, len(a), 1000):
        part = slice(start, start + 1000)
        mean[part] = (a[part].astype(np.float32) + b[part].astype(np.float32)) / 2
    return mean


def pixels_for(images: Sequence[ImageRef], size: int) -> str:
    """What a backbone of images of a size should look at beside the usual: no more pixels than the photos have.

    A few photos are looked at for it, evenly spread.
    """
    some = [images[i] for i in np.linspace(0, len(images) - 1, min(len(images), N_MEASURED)).astype(int)]
    sides = [side for image in some if (side := _shorter_side(image))]
    return WHOLE if sides and np.median(sides) < size else MORE


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
