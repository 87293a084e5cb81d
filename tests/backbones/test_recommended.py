"""The table of networks that are worth a download."""

import pytest

from headstart.backbones.huggingface.licenses import license_note
from headstart.backbones.huggingface.recommended import RECOMMENDED


@pytest.mark.parametrize("row", RECOMMENDED, ids=lambda row: row.name)
def test_a_row_says_what_a_user_has_to_know(row):
    assert row.name.startswith("timm:") and row.good_for and row.source and row.extra == "torch"
    assert 0.7 < row.accuracy < 0.9 and 1e6 < row.n_parameters < 1e8 and 100 < row.size < 1000
    assert row.size_mb == pytest.approx(row.n_parameters * 4 / 1e6, abs=1)
    assert license_note(row.license) is None or "commercial" not in license_note(row.license)


def test_timm_knows_the_names():
    timm = pytest.importorskip("timm")
    known = set(timm.list_pretrained())
    assert {row.name.removeprefix("timm:") for row in RECOMMENDED} <= known
    for row in RECOMMENDED:
        n = sum(p.numel() for p in timm.create_model(row.name.removeprefix("timm:")).parameters())
        assert n == pytest.approx(row.n_parameters, rel=0.01)
