"""CSV cells: quotes text that a spreadsheet would run as a formula (CSV injection), and reads it again.

A spreadsheet takes a cell that begins with = + - or @ for a formula, and runs it; names of files and classes are strangers'
text. It decides what stands in such a cell instead, so that nothing is run and nothing is lost: an apostrophe comes before
(OWASP, "CSV Injection"), and one is taken away where we read our own tables again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# A cell ends at a semicolon, a tab or a line's end as well, where a spreadsheet takes those for separators. The apostrophes
# count those that stand there already, so that reading takes away just what writing put there.
FORMULA = re.compile("(^|[;\t\r\n])('*[ \u00a0]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
ESCAPED = re.compile("(^|[;\t\r\n])'('*[ \u00a0]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def to_cell(text: str) -> str:
    """Make a cell of a text: an apostrophe stands before what would be a formula."""
    return FORMULA.sub(r"\1'\2", text)


def to_cells(values: Iterable[Any]) -> list[Any]:
    """Make a row of cells: text as to_cell makes it, all else as it is."""
    return [to_cell(value) if isinstance(value, str) else value for value in values]


def from_cell(cell: str) -> str:
    """Give the text that to_cell made a cell of."""
    return ESCAPED.sub(r"\1\2", cell)
