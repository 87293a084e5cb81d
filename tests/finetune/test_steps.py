"""The steps of a fine-tuning: the learning rate's warm-up and cosine."""

import pytest

pytest.importorskip("torch")

from headstart.finetune import steps


def test_the_rate_rises_and_falls():
    rates = [steps.rate_share(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 == rates[10] and 0 <= rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
