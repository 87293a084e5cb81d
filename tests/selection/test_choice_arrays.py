"""A choice that is kept comes back as it was."""

import hashlib
import io

import numpy as np
import pytest

from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.heads.logistic import Member
from headstart.selection.choice_arrays import choice_arrays, choice_of_arrays
from headstart.selection.cross_validation import choose_head


@pytest.mark.parametrize("kind", HEADS)
def test_a_choice_comes_back_as_it_was(kind):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    codes = (rng.normal(0, 1, (60, 12)) + labels[:, None]).astype(np.float16)
    groups = [hashlib.sha256(b"%d" % i).digest() for i in range(60)]
    members = (Member(0, 4), Member(0, 12)) if HEADS[kind].is_averaged else ()
    choice = choose_head(LabelledCodes(codes, labels, 2, groups, (4, 8), members), kind=kind)
    file = io.BytesIO()
    np.savez(file, **choice_arrays(choice))
    file.seek(0)
    again = choice_of_arrays(np.load(file))
    assert (again.head.logits(codes) == choice.head.logits(codes)).all() and again.head.widths == choice.head.widths
    assert (again.logits == choice.logits).all() and (again.held_out == choice.held_out).all()
    for name in ("kind", "strength", "trials", "is_balanced", "members"):
        assert getattr(again, name) == getattr(choice, name)
    assert (again.probabilities == choice.probabilities).all() and (again.fold == choice.fold).all()
