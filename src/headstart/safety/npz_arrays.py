"""Reads arrays from an .npz file of unknown origin: no pickle, no zip bomb, no shapes but those that are expected.

Takes the file's bytes and what is expected of each array; gives the arrays. It decides how many bytes a file may unpack to.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

MOST_BYTES = 2**28  # that any file may unfold to; a larger one to MOST_TIMES its size
MOST_TIMES = 100  # a run of 60,000 photos unfolds to 1.3 times its size; a file of nothing but zeros to 1,000 times
MOST_HEADER = 512  # bytes of an array's header; ours have 118
# What NumPy and zipfile raise of damaged bytes: 3,000 damaged copies raised one of these.
DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError, struct.error),
)
Expected = tuple[str, tuple[int | str, ...]]
"""The kinds of dtype that an array may have, and its shape; a dimension with a name has one size in all arrays."""


def read_arrays(content: bytes, expected: Mapping[str, tuple[Expected, ...]]) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; each must have one of the kinds and shapes that are expected under its name.

    Raises one of DAMAGE, with the reason, for a file that is not whole, or not as expected.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.getinfo(f"{name}.npy") for name in expected}
        most = max(MOST_BYTES, MOST_TIMES * len(content))
        n_bytes = sum(member.file_size for member in members.values())
        if n_bytes > most:
            raise ValueError(f"it unfolds to {n_bytes:,} bytes, more than a file of {len(content):,} bytes can be worth")
        sizes: dict[str, int] = {}
        return {name: _read(file, member, expected[name], sizes) for name, member in members.items()}


def _read(
    file: zipfile.ZipFile, member: zipfile.ZipInfo, expected: tuple[Expected, ...], sizes: dict[str, int]
) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that NumPy does not write")
    with file.open(member) as array:
        if np.lib.format.read_magic(array) != (1, 0):  # type: ignore[no-untyped-call]
            raise ValueError(f"{member.filename} is of another version of NumPy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(array, MOST_HEADER)  # type: ignore[no-untyped-call]
        _check(member.filename, shape, dtype, expected, sizes)
        n_bytes = math.prod(shape) * dtype.itemsize
        values = np.frombuffer(
            array.read(n_bytes + 1), np.uint8
        )  # one more, so that an array that is too long is noticed, and the CRC is checked
        if len(values) != n_bytes:
            raise ValueError(f"{member.filename} holds not so many bytes as it says, {n_bytes:,}")
    return values.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def _check(
    name: str, shape: tuple[int, ...], dtype: np.dtype, expected: tuple[Expected, ...], sizes: dict[str, int]
) -> None:
    """Compare an array's header with what is expected, and record the sizes of named dimensions."""
    for kinds, dimensions in expected:
        if dtype.kind not in kinds or dtype.itemsize > 8 or len(shape) != len(dimensions):
            continue
        pairs = [(sizes.get(d, n) if isinstance(d, str) else d, n) for d, n in zip(dimensions, shape, strict=True)]
        if all(wanted == n for wanted, n in pairs):
            sizes.update({d: n for d, n in zip(dimensions, shape, strict=True) if isinstance(d, str)})
            return
    wanted_shapes = " or ".join(str(tuple(sizes.get(str(d), d) for d in dimensions)) for _, dimensions in expected)
    raise ValueError(f"{name} has the shape {shape} of {dtype}; expected {wanted_shapes}")
