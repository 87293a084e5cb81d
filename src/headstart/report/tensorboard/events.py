"""Encodes TensorBoard event files: TFRecords of event.proto and summary.proto, in protobuf's wire format.

Takes values; gives bytes. Why not tensorboardX (2.6.5): importing it imports torch wherever that is installed, 1 to 2.6 s,
its writer is a thread behind a multiprocessing queue, and its files bear the clock's time and the host's name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache

import numpy as np


def event_file(events: Iterable[bytes], seconds: float) -> bytes:
    """Frame events, which lack their time, as a whole file; seconds: that time, since 1970, the same for all."""
    at = double_field(1, seconds)
    return b"".join(_record(at + event) for event in (text_field(3, "brain.Event:2"), *events))


def _record(event: bytes) -> bytes:
    """Frame an event as a TFRecord: length, its checksum, the event, its checksum."""
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", _masked_crc(length)) + event + struct.pack("<I", _masked_crc(event))


def _masked_crc(content: bytes) -> int:
    """Compute CRC-32C (RFC 3720, appendix B.4), rotated and shifted as TFRecord masks it."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [x >> 1 ^ (0x82F63B78 if x & 1 else 0) for x in table]
    return table


# ---- events


def scalar(tag: str, value: float, *, step: int = 0) -> bytes:
    """Build an event with a number of a curve."""
    return summary(tag, float_field(2, value), step=step)


def summary(tag: str, value: bytes, *, step: int = 0) -> bytes:
    """Build an event, without its time, with one value; value: the fields of it after the tag."""
    return int_field(2, step) + bytes_field(5, bytes_field(1, text_field(1, tag) + value))


def metadata(plugin: str, content: bytes = b"", *, description: str = "") -> bytes:
    """Write the metadata field of a value: its plugin, that plugin's content, and a description in Markdown."""
    return bytes_field(9, bytes_field(1, text_field(1, plugin) + bytes_field(2, content)) + text_field(3, description))


def tensor(values: np.ndarray) -> bytes:
    """Write the tensor field of a value: numbers as 32-bit floats."""
    shape = b"".join(bytes_field(2, int_field(1, n)) for n in values.shape)
    return bytes_field(8, int_field(1, 1) + bytes_field(2, shape) + bytes_field(4, values.astype("<f4").tobytes()))


# ---- fields: each has a number in its message, and a type


def int_field(number: int, value: int) -> bytes:
    """Write a field that is an integer or a bool; negative ones take ten bytes, as int64 does."""
    return _varint(number << 3) + _varint(value)


def double_field(number: int, value: float) -> bytes:
    """Write a field that is a 64-bit float."""
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def float_field(number: int, value: float) -> bytes:
    """Write a field that is a 32-bit float."""
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Write a field that is bytes, or a message of its own."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """Write a field that is text; what is not Unicode becomes a question mark."""
    return bytes_field(number, value.encode("utf-8", "replace"))


def doubles_field(number: int, values: np.ndarray) -> bytes:
    """Write a packed field of 64-bit floats."""
    return bytes_field(number, values.astype("<f8").tobytes())


def _varint(n: int) -> bytes:
    n &= 2**64 - 1
    parts = bytearray()
    while n > 127:
        parts.append(n & 127 | 128)
        n >>= 7
    return bytes((*parts, n))
