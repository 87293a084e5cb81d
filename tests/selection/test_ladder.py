"""The climb takes what held-out images say is worth it beyond chance, leaves the rest, and says why."""

import hashlib
import json
import types
from dataclasses import asdict, replace

import numpy as np
import pytest

from headstart.backbones.backbone import WHOLE, Backbone
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.representation import Representation
from headstart.errors import BackboneError
from headstart.heads import mlp
from headstart.selection import ladder
from headstart.selection.effort import EFFORTS
from headstart.selection.ladder import Ladder
from headstart.selection.rungs import Candidate, compare_attempts
from headstart.selection.sample import sample
from support.networks import write_deep_backbone

WIDTHS = (6, 20, 30)


def digests(n):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Makes a backbone of a name; what its codes are is for Photos to say."""
    folder = tmp_path_factory.mktemp("ladder")

    def make(name="first", *, seed=0, widths=WIDTHS, batch="n") -> Backbone:
        path = write_deep_backbone(folder / f"{seed}-{batch}.onnx", seed=seed, batch=batch)
        return replace(find_backbone(BackboneSpec(str(path)), folder), name=name, widths=widths)

    return make


class Photos:
    """Images whose codes are made up: of each backbone and layer how clearly they tell the label."""

    def __init__(self, *, n=240, k=3, seed=0) -> None:
        self.rng = np.random.default_rng(seed)
        self.labels, self.n_classes, self.digests = np.arange(n) % k, k, digests(n)
        self.layers: dict[str, list[np.ndarray]] = {}
        self.of_views: list[np.ndarray] = []
        self.asked: list[tuple[Representation, np.ndarray]] = []
        self.now = 0.0

    def shows(self, name, *clarity) -> None:
        """A backbone's layers, the last first: 0 is noise, 2 is plain to see."""
        centres = [self.rng.normal(0, 1, (self.n_classes, width)) for width in WIDTHS]
        layers = [c * m[self.labels] for c, m in zip(clarity, centres, strict=False)]
        self.layers[name] = [x + self.rng.normal(0, 1, x.shape) for x in layers]

    def codes_of(self, representation, rows) -> np.ndarray:
        self.asked.append((representation, rows))
        layers = [layer for b in representation.backbones for layer in self.layers[b.name][: representation.n_layers]]
        codes = np.hstack(layers)[rows].astype(np.float16)
        views = self.of_views or [np.hstack(layers)] * len(representation.views)
        return np.stack([codes, *(v[rows] for v in views)], axis=1).astype(np.float16) if representation.views else codes

    def ladder(self, **options) -> Ladder:
        return Ladder(self.codes_of, self.labels, self.n_classes, self.digests, threads=1, **options)


def first(backbone, n_layers=1) -> Candidate:
    return Candidate(Representation((backbone,), n_layers), "softmax")


def taken(selection) -> list[str]:
    return [rung.name for rung in selection.rungs if rung.is_taken]


def of_name(selection, name):
    return [rung for rung in selection.rungs if rung.name == name]


# ---- what it begins with


def test_without_anything_to_try_the_first_candidate_is_fitted_once_on_all_images(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder().learn(first(backbone()))
    (rung,) = selection.rungs
    assert rung.name == "last layer" and rung.is_taken and rung.n_images == 240
    assert len(photos.asked) == 1 and len(selection.choice.held_out) == 240


@pytest.mark.parametrize("clarity", [(0.3, 1.5, 0), (1.5, 0, 0), (0, 0, 1.5)])
def test_a_mean_of_layers_is_about_as_good_as_the_best_of_them(clarity, backbone):
    """Whichever layer tells the label: nobody knows beforehand, and the mean need not."""
    photos = Photos(n=600)
    photos.shows("first", *clarity)
    selection = photos.ladder().learn(first(backbone(), 3))
    assert selection.rungs[0].name == "mean of layers" and selection.rungs[0].accuracy > 0.85
    assert len(selection.choice.members) == 3 and selection.choice.head.widths == WIDTHS


def test_the_same_photos_lead_to_the_same_place_in_any_order(backbone):
    one, other = Photos(), Photos()
    for photos in (one, other):
        photos.shows("first", 0.5, 0.5, 0.5)
    order = np.random.default_rng(9).permutation(len(one.labels))
    other.labels, other.digests = other.labels[order], [other.digests[i] for i in order]
    other.layers = {key: [layer[order] for layer in layers] for key, layers in other.layers.items()}
    selection = [photos.ladder(heads=["class-mean"]).learn(first(backbone(), 3)) for photos in (one, one, other)]
    facts = [[(r.name, r.look, r.accuracy, r.is_taken) for r in each.rungs] for each in selection]
    assert facts[0] == facts[1] == facts[2]


def test_a_rung_can_be_written_down(backbone):
    photos = Photos()
    photos.shows("first", 0.3, 1, 0)
    rungs = [asdict(rung) for rung in photos.ladder(heads=["nearest"]).learn(first(backbone())).rungs]
    assert [rung["name"] for rung in json.loads(json.dumps(rungs))] == ["last layer", "head nearest"]


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_a_representation(effort, backbone):
    one, other = backbone(), backbone("second", seed=1, batch=1)
    representation = EFFORTS[effort].representation((one,))
    assert representation.n_layers == (1 if effort == "quick" else 3)
    assert representation.is_mirrored == (effort == "thorough")
    assert EFFORTS[effort].representation((one,), WHOLE).is_mirrored == (effort != "quick")  # small photos
    assert not EFFORTS[effort].representation((one, other)).is_mirrored  # one of the two takes one image at a time


# ---- views


def test_views_are_taken_where_they_help(backbone):
    """The label lies where only the views reach: the photos themselves hardly vary there."""
    photos = Photos(n=60)
    photos.shows("first", 0.7)
    photos.of_views = [photos.layers["first"][0] + photos.rng.normal(0, 0.1, (60, 6)) for _ in range(3)]
    ladder_of = photos.ladder(views=("rotation=15", "zoom=20", "crop=20"))
    names = [rung.name for rung in ladder_of.learn(first(backbone(widths=(6,)))).rungs]
    assert names == ["last layer", "views rotation=15, zoom=20, crop=20"]


def test_mirroring_is_not_tried_again_where_the_codes_are_averaged_with_the_mirror_image(backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    representation = Representation((backbone(),), is_mirrored=True)
    selection = photos.ladder(views=("mirrored",)).learn(Candidate(representation, "softmax"))
    assert [rung.name for rung in selection.rungs] == ["last layer, mirrored"]


# ---- heads


def test_the_nearest_class_mean_is_tried_where_there_are_few(backbone):
    few, many = Photos(n=24), Photos(n=300)
    for photos in (few, many):
        photos.shows("first", 0.5, 0, 0)
    names = [[rung.name for rung in p.ladder().learn(first(backbone())).rungs] for p in (few, many)]
    assert "head class-mean" in names[0] and "head class-mean" not in names[1]


def test_heads_that_are_named_are_tried(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder(heads=["nearest", "class-mean"]).learn(first(backbone()))
    assert [rung.name for rung in selection.rungs][-2:] == ["head nearest", "head class-mean"]


def xor(photos, n) -> None:
    corners = photos.rng.choice([-1, 1], (n, 2))
    photos.labels, photos.n_classes = (corners.prod(axis=1) > 0).astype(int), 2
    photos.layers["first"] = [np.hstack([corners, photos.rng.normal(0, 0.2, (n, 4))])]


def test_a_hidden_layer_is_tried_on_all_of_many_images(backbone, monkeypatch):
    monkeypatch.setattr(ladder, "FROM_HIDDEN", 400)
    monkeypatch.setattr(ladder, "MOST_COMPARED", 100)
    monkeypatch.setattr(mlp, "STEPS", 200)
    photos = Photos(n=400)
    xor(photos, 400)
    selection = photos.ladder().learn(first(backbone(widths=(6,))))
    assert selection.choice.kind == "hidden"
    (rung,) = of_name(selection, "head hidden")
    assert rung.n_images == 400 and rung.accuracy > 0.9


def test_several_labels_an_image_climb_too(backbone):
    photos = Photos(n=200)
    labels = photos.rng.integers(0, 2, (200, 3)).astype(np.float32)
    photos.labels = labels
    photos.layers["first"] = [
        photos.rng.normal(0, 1, (200, 6)),
        labels @ photos.rng.normal(0, 3, (3, 20)) + photos.rng.normal(0, 0.5, (200, 20)),
        photos.rng.normal(0, 1, (200, 30)),
    ]
    selection = photos.ladder().learn(Candidate(Representation((backbone(),), 3), "sigmoid"))
    assert selection.choice.head.output == "sigmoid" and selection.rungs[0].accuracy > 0.8


# ---- chance


def test_ties_go_to_the_simpler(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder(heads=["softmax"]).learn(first(backbone()))
    (again,) = of_name(selection, "head softmax")
    assert not again.is_taken and again.why.startswith("0 more right, 0 more wrong; calibrated cross entropy")


def test_the_more_is_tried_the_further_ahead_a_candidate_has_to_be(backbone, monkeypatch):
    asked = []
    monkeypatch.setattr(
        ladder, "compare_attempts", lambda *both, n_tried: asked.append(n_tried) or compare_attempts(*both, n_tried=n_tried)
    )
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    photos.ladder(heads=["nearest", "class-mean"], views=("zoom=10",)).learn(first(backbone()))
    assert asked == [3, 3, 3]


def test_candidates_that_are_no_better_are_hardly_ever_taken(backbone):
    """Views that are noise, on forty sets of photos: 5 % of choices may go to them, as on average two sets."""
    n_taken = 0
    for seed in range(40):
        photos = Photos(n=90, seed=seed)
        photos.shows("first", 0.6)
        photos.of_views = [photos.layers["first"][0] + photos.rng.normal(0, 0.7, (90, 6))]
        n_taken += len(taken(photos.ladder(views=("zoom=10",)).learn(first(backbone(widths=(6,)))))) - 1
    assert n_taken <= 5


def test_where_nothing_can_be_held_out_nothing_is_taken(backbone):
    photos = Photos()
    photos.shows("first", 0.1, 2, 2)
    photos.digests = [b"the same"] * len(photos.labels)
    selection = photos.ladder(heads=["class-mean"]).learn(first(backbone()))
    assert taken(selection) == ["last layer"] and selection.rungs[0].accuracy is None
    assert {rung.why for rung in selection.rungs[1:]} == {"too few images to judge by"}


# ---- the budget


def test_a_budget_that_is_spent_cuts_what_is_left_and_says_so(backbone, monkeypatch):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    monkeypatch.setattr(ladder, "time", types.SimpleNamespace(monotonic=lambda: photos.now))
    original = photos.codes_of

    def codes_of(representation, rows):
        photos.now += 10
        return original(representation, rows)

    photos.codes_of = codes_of
    selection = photos.ladder(heads=["nearest", "class-mean"], budget=15).learn(first(backbone()))
    one, nearest, class_mean = selection.rungs
    assert nearest.accuracy is not None and not one.is_cut and not nearest.is_cut
    assert class_mean.is_cut and class_mean.why == "not tried: the budget of 15 s is spent"


def test_without_a_budget_no_clock_is_asked(backbone, monkeypatch):
    """A clock that runs wild changes nothing but the seconds."""
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    monkeypatch.setattr(ladder, "time", types.SimpleNamespace(monotonic=lambda: photos.rng.uniform(0, 1e9)))
    selection = photos.ladder(heads=["nearest", "class-mean"]).learn(first(backbone()))
    assert not any(rung.is_cut for rung in selection.rungs) and len(selection.rungs) == 3


def test_a_backbone_that_fails_where_it_is_only_tried_does_not_end_the_run(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    original = photos.codes_of

    def codes_of(representation, rows):
        if representation.views:
            raise BackboneError("codes of red.png are not finite")
        return original(representation, rows)

    photos.codes_of = codes_of
    selection = photos.ladder(views=("zoom=20",)).learn(first(backbone()))
    assert selection.rungs[1].why == "not possible: codes of red.png are not finite"


def test_an_interrupt_keeps_the_best_so_far_and_a_second_one_stops(backbone, caplog):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    original, n_asked = photos.codes_of, []

    def codes_of(representation, rows):
        n_asked.append(1)
        if len(n_asked) == 3:  # the first candidate, the first rung, and then
            raise KeyboardInterrupt
        return original(representation, rows)

    photos.codes_of = codes_of
    told = []
    selection = photos.ladder(heads=["class-mean", "nearest", "softmax"], progress=lambda *a: told.append(a[0])).learn(
        first(backbone())
    )
    assert [rung.is_cut for rung in selection.rungs] == [False, False, True, True]
    assert selection.choice.kind == "softmax" and "Ctrl-C again stops at once" in caplog.text
    assert any(stage.startswith("head nearest; so far ") and "%" in stage for stage in told)
    n_asked[:] = [1, 1]  # at the first candidate there is nothing to keep
    with pytest.raises(KeyboardInterrupt):
        photos.ladder(heads=["class-mean"]).learn(first(backbone()))


# ---- the images to choose by


def test_comparing_sees_the_sample_and_the_end_sees_all(backbone, monkeypatch):
    monkeypatch.setattr(ladder, "MOST_COMPARED", 80)
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder(heads=["class-mean"]).learn(first(backbone()))
    chosen_by = set(sample(photos.digests, photos.labels, 3, most=80).tolist())
    *tried, (representation, last) = photos.asked
    assert len(chosen_by) < 100 and all(set(rows.tolist()) == chosen_by for _, rows in tried)
    assert last.tolist() == list(range(240)) and representation == selection.representation
    assert len(selection.choice.held_out) == 240 and {rung.n_images for rung in selection.rungs} == {len(chosen_by)}


def test_the_sample_holds_all_of_a_few_and_so_many_of_more():
    for n, n_kept in ((70, 70), (400, 100), (5000, 100)):
        kept = sample(digests(n), np.arange(n) % 2, 2, most=100)
        assert len(kept) == n_kept and (np.diff(kept) > 0).all()


def test_the_sample_is_the_same_images_in_any_order():
    names, labels = digests(400), np.arange(400) % 7
    order = np.random.default_rng(0).permutation(400)
    one = {names[i] for i in sample(names, labels, 7, most=50)}
    other = {names[order[i]] for i in sample([names[i] for i in order], labels[order], 7, most=50)}
    assert one == other
    more = sample([*names, hashlib.sha256(b"new").digest()], np.append(labels, 0), 7, most=50)
    assert len(one ^ {[*names, None][i] for i in more}) <= 3  # one photo more moves hardly another


def test_the_sample_holds_classes_of_a_few_photos():
    labels = np.zeros(500, int)
    labels[::100] = 1  # five photos of it
    labels[1::20] = 2  # 25
    kept = labels[sample(digests(500), labels, 3, most=50)]
    assert (kept == 1).sum() == 5 and (kept == 2).sum() >= 10
    multi_hot = np.stack([labels == c for c in range(3)], axis=1).astype(np.float32)
    assert multi_hot[sample(digests(500), multi_hot, 3, most=50)][:, 1].sum() == 5
