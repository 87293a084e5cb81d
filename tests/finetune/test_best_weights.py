"""The best weights: which epoch is kept, how much of the way is gone, and when patience is over."""

import pytest

torch = pytest.importorskip("torch")

from headstart.finetune.best_weights import BestWeights, Epoch
from headstart.finetune.recipe import Recipe


def recipe_of(*, epochs, is_judged=True, keep=None):
    return Recipe("all", epochs, 8, 1, 0.01, 0, "f32", False, False, is_judged, 0, None, keep)


def epoch(n, loss):
    return Epoch(n, 0.0, loss, 0.0, 0.0, 0.0, 0.0)


def weights(number):
    return {"w": torch.full((1,), float(number))}


def test_part_of_the_way_is_gone_where_all_of_it_is_too_far():
    recipe = recipe_of(epochs=1)
    start, end = torch.zeros(1), torch.ones(1)
    for best_at, expected in ((0.6, 0.5), (0.2, 0.25), (0.98, 1.0)):

        def loss_at(place, best_at=best_at):
            return (place - best_at) ** 2

        best = BestWeights(recipe, {"w": start}, lambda weights, loss=loss_at: (loss(float(weights["w"])), 0.0))
        for n, weight in enumerate((start, end)):
            best.add(Epoch(n, 0.0, loss_at(n), 0.0, 0.0, 0.0, 0.0), {"w": weight})
        assert best.epoch == (1 if best_at > 0.5 else 0)
        best.choose_blend({"w": end})
        assert best.blend == expected == float(best.weights["w"])


def test_the_epoch_of_the_lowest_loss_is_kept_as_it_was():
    best, now = BestWeights(recipe_of(epochs=5), weights(0), lambda _: (9.0, 0.0)), weights(0)
    for n, loss in enumerate((3.0, 2.0, 1.0, 2.5)):
        now["w"].fill_(n)  # a training changes its weights in place
        best.add(epoch(n, loss), now)
    assert (best.epoch, float(best.weights["w"]), best.lowest_loss) == (2, 2.0, 1.0)


@pytest.mark.parametrize(("is_judged", "n", "expected"), [(True, 3, False), (True, 4, True), (False, 4, False)])
def test_patience_is_over_after_some_epochs_without_a_gain(is_judged, n, expected):
    best = BestWeights(recipe_of(epochs=5, is_judged=is_judged), weights(0), lambda _: (9.0, 0.0))
    for i, loss in enumerate((3.0, 2.0, 4.0, 4.0, 4.0)[: n + 1]):
        best.add(epoch(i, loss), weights(i))
    assert best.is_patience_over(n) == expected


def test_what_was_chosen_before_is_gone_again():
    best = BestWeights(recipe_of(epochs=5, is_judged=False, keep=(2, 0.25)), weights(0), lambda _: (None, None))
    for n in range(3):
        best.add(epoch(n, None), weights(n))
    best.choose_blend(weights(2))
    assert (best.epoch, best.blend, float(best.weights["w"])) == (2, 0.25, 0.5)


def test_a_state_that_was_saved_goes_on():
    best = BestWeights(recipe_of(epochs=5), weights(0), lambda _: (9.0, 0.0))
    for n, loss in enumerate((3.0, 2.0)):
        best.add(epoch(n, loss), weights(n))
    again = BestWeights(recipe_of(epochs=5), weights(0), lambda _: (9.0, 0.0))
    again.load_state(best.state(), torch.device("cpu"))
    assert again.history == best.history and (again.epoch, again.blend) == (1, 1.0) and float(again.weights["w"]) == 1.0
