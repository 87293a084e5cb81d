"""The climb takes what held-out images say is worth it, leaves the rest, and says why."""

import hashlib
import json
import types
from dataclasses import asdict, replace

import numpy as np
import pytest

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.codes.representation import Representation
from headstart.errors import BackboneError
from headstart.heads import mlp
from headstart.selection import ladder
from headstart.selection.ladder import Ladder, sample
from headstart.selection.rungs import Candidate
from support.networks import write_deep_backbone

WIDTHS = (6, 20, 30)


def digests(n):
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Makes a backbone of a name; what its codes are is for Photos to say."""
    folder = tmp_path_factory.mktemp("ladder")

    def make(name="first", *, seed=0, size=32, widths=WIDTHS, batch="n") -> Backbone:
        path = write_deep_backbone(folder / f"{seed}-{batch}.onnx", seed=seed, batch=batch)
        loaded = find_backbone(BackboneSpec(str(path)), folder)
        return replace(loaded, name=name, widths=widths, preprocess=replace(loaded.preprocess, size=size))

    return make


class Photos:
    """Images whose codes are made up: of each backbone and layer how clearly they tell the label."""

    def __init__(self, *, n=240, k=3, seconds=0.0, seed=0) -> None:
        self.rng = np.random.default_rng(seed)
        self.labels, self.n_classes, self.digests = np.arange(n) % k, k, digests(n)
        self.layers: dict[tuple, list[np.ndarray]] = {}
        self.asked: list[tuple[Representation, np.ndarray]] = []
        self.seconds, self.now, self.computed = seconds, 0.0, set()

    def shows(self, name, *clarity, size=32, mirrored=False) -> None:
        """A backbone's layers, the last first: 0 is noise, 2 is plain to see."""
        centres = [self.rng.normal(0, 1, (self.n_classes, width)) for width in WIDTHS]
        layers = [c * m[self.labels] for c, m in zip(clarity, centres, strict=False)]
        self.layers[name, size, mirrored] = [x + self.rng.normal(0, 1, x.shape) for x in layers]

    def codes_of(self, look, rows) -> np.ndarray:
        self.asked.append((look, rows))
        for b in look.backbones:
            wanted = {(b.name, b.preprocess.size, look.is_mirrored, look.views, int(row)) for row in rows}
            share = len(wanted - self.computed) / len(self.labels)
            self.now += self.seconds * share * (b.preprocess.size / 32) ** 2 * (2 if look.is_mirrored else 1)
            self.computed |= wanted
        layers = [
            layer
            for b in look.backbones
            for layer in self.layers.get(
                (b.name, b.preprocess.size, look.is_mirrored), self.layers.get((b.name, b.preprocess.size, False))
            )[: look.n_layers]
        ]
        codes = np.hstack(layers)[rows].astype(np.float16)
        return np.stack([codes] * (1 + len(look.views)), axis=1) if look.views else codes

    def ladder(self, **options) -> Ladder:
        options = {"wider": lambda _: None, "budget": 1e9, **options}
        return Ladder(self.codes_of, self.labels, self.n_classes, self.digests, threads=1, **options)


def first(backbone) -> Candidate:
    return Candidate(Representation((backbone,)), "softmax")


def taken(selection) -> list[str]:
    return [rung.name for rung in selection.rungs if rung.is_taken]


def of_name(selection, name):
    return [rung for rung in selection.rungs if rung.name == name]


# ---- depth


def test_a_deeper_layer_that_holds_the_label_is_taken(backbone):
    photos = Photos()
    photos.shows("first", 0.3, 1, 0)
    selection = photos.ladder(views=()).learn(first(backbone()))
    assert selection.representation.n_layers == 2 and taken(selection) == ["last layer", "deeper codes"]
    before, two, three = selection.rungs
    assert two.accuracy > before.accuracy + 0.1 and not three.is_taken  # the third is noise
    assert selection.choice.head.widths == (6, 20)
    assert "2 layers" in two.look and "more right" in two.why and two.interval[0] < two.accuracy <= two.interval[1]


def test_deeper_layers_of_noise_are_left(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder().learn(first(backbone()))
    assert selection.representation == Representation((backbone(),)) and taken(selection) == ["last layer"]
    assert len(of_name(selection, "deeper codes")) == 2


def test_a_backbone_of_one_layer_has_no_deeper_rung(backbone):
    photos = Photos()
    photos.shows("first", 1)
    selection = photos.ladder().learn(first(backbone(widths=(6,))))
    assert of_name(selection, "deeper codes") == []


def test_a_rung_can_be_written_down(backbone):
    photos = Photos()
    photos.shows("first", 0.3, 1, 0)
    rungs = [asdict(rung) for rung in photos.ladder(budget=1e9).learn(first(backbone())).rungs]
    assert [rung["name"] for rung in json.loads(json.dumps(rungs))] == [
        "last layer",
        "deeper codes",
        "deeper codes",
        "mirrored",
    ]


# ---- ties, and what cannot be judged


def test_ties_go_to_the_simpler(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)  # its mirror images have the very same codes
    selection = photos.ladder(heads=["softmax"]).learn(first(backbone()))
    (mirrored,), (again,) = of_name(selection, "mirrored"), of_name(selection, "head softmax")
    assert not mirrored.is_taken and not again.is_taken and not selection.representation.is_mirrored
    assert again.why.startswith("0 more right, 0 more wrong; calibrated cross entropy")


def test_where_nothing_can_be_held_out_nothing_is_taken(backbone):
    photos = Photos()
    photos.shows("first", 0.1, 2, 2)
    photos.digests = [b"the same"] * len(photos.labels)
    selection = photos.ladder().learn(first(backbone()))
    assert taken(selection) == ["last layer"] and selection.rungs[0].accuracy is None
    assert {rung.why for rung in selection.rungs[1:]} == {"too few images to judge by"}


def test_the_same_photos_lead_to_the_same_place_in_any_order(backbone):
    one, other = Photos(), Photos()
    for photos in (one, other):
        photos.shows("first", 0.5, 0.5, 0.5)
    order = np.random.default_rng(9).permutation(len(one.labels))
    other.labels, other.digests = other.labels[order], [other.digests[i] for i in order]
    other.layers = {key: [layer[order] for layer in layers] for key, layers in other.layers.items()}
    selection = [photos.ladder().learn(first(backbone())) for photos in (one, one, other)]
    facts = [[(r.name, r.look, r.accuracy, r.is_taken) for r in each.rungs] for each in selection]
    assert facts[0] == facts[1] == facts[2]


# ---- pixels, mirroring and views


@pytest.mark.parametrize(("clarity", "is_taken"), [(2, True), (0.1, False)])
def test_looking_wider_is_taken_where_it_helps(clarity, is_taken, backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    photos.shows("first", clarity, 0, 0, size=64)
    selection = photos.ladder(wider=lambda b: backbone(b.name, size=64)).learn(first(backbone()))
    one, two = [rung for rung in selection.rungs if "64 pixels" in rung.look][:2]  # of one layer, and of two
    assert (one.is_taken, two.is_taken) == (is_taken, False) and "2 layers" in two.look
    assert selection.representation.backbones[0].preprocess.size == (64 if is_taken else 32)


def test_mirroring_is_taken_where_it_helps(backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    photos.shows("first", 2, 0, 0, mirrored=True)
    selection = photos.ladder().learn(first(backbone()))
    assert selection.representation.is_mirrored and "mirrored" in taken(selection)


@pytest.mark.parametrize("views", [(), ("rotation=15",)])
def test_who_does_not_ask_for_mirroring_gets_none(views, backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    photos.shows("first", 2, 0, 0, mirrored=True)
    selection = photos.ladder(views=views).learn(first(backbone()))
    assert not any(look.is_mirrored for look, _ in photos.asked) and not of_name(selection, "mirrored")
    assert [rung.name for rung in selection.rungs if rung.name.startswith("views")] == [f"views {v}" for v in views]


def test_mirroring_is_never_tried_with_a_network_of_one_image_at_a_time(backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    photos.shows("first", 2, 0, 0, mirrored=True)
    selection = photos.ladder().learn(first(backbone(batch=1)))
    assert not selection.representation.is_mirrored and not any(look.is_mirrored for look, _ in photos.asked)


# ---- other backbones


def test_a_better_backbone_takes_the_place_of_the_first(backbone):
    photos = Photos()
    photos.shows("first", 0)
    photos.shows("second", 1.5)
    one_layer = {"widths": WIDTHS[:1]}
    selection = photos.ladder(others=[backbone("second", seed=1, **one_layer)]).learn(first(backbone(**one_layer)))
    assert selection.representation.name == "second" and taken(selection) == ["last layer", "second"]
    assert [rung.look.split(",")[0] for rung in of_name(selection, "second")] == ["second", "first+second"]


def test_backbones_that_complete_each_other_are_joined(backbone):
    photos = Photos(n=400, k=4)
    photos.shows("first", 2, 0, 0)
    photos.shows("second", 2, 0, 0)
    for name, known in (("first", photos.labels % 2), ("second", photos.labels // 2)):  # each knows half of the answer
        photos.layers[name, 32, False][0] = np.eye(2, 6)[known] * 4 + photos.rng.normal(0, 1, (400, 6))
    selection = photos.ladder(others=[backbone("second", seed=1)]).learn(first(backbone()))
    assert selection.representation.name == "first+second" and selection.choice.head.widths == (6, 6)
    assert of_name(selection, "second")[1].accuracy > selection.rungs[0].accuracy + 0.3


def test_the_same_network_is_not_compared_with_itself(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder(others=[backbone("first")]).learn(first(backbone()))
    assert of_name(selection, "first") == []


def test_networks_that_see_other_pixels_are_not_joined(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    photos.shows("second", 1, 0, 0, size=64)
    selection = photos.ladder(others=[backbone("second", seed=1, size=64)]).learn(first(backbone()))
    assert [rung.look.split(",")[0] for rung in of_name(selection, "second")] == ["second"]


def test_a_network_that_cannot_be_mirrored_is_not_joined_to_one_that_is(backbone):
    photos = Photos()
    photos.shows("first", 0.5, 0, 0)
    photos.shows("first", 0.8, 0, 0, mirrored=True)
    photos.shows("second", 2, 0, 0)
    selection = photos.ladder(others=[backbone("second", seed=1, batch=1)]).learn(first(backbone()))
    assert not selection.representation.is_mirrored or all(b.can_mirror for b in selection.representation.backbones)


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
    photos.layers["first", 32, False] = [np.hstack([corners, photos.rng.normal(0, 0.2, (n, 4))])]


@pytest.mark.parametrize(("budget", "is_tried"), [(1e9, True), (1e-9, False)])
def test_a_hidden_layer_is_tried_on_all_of_many_images(budget, is_tried, backbone, monkeypatch):
    monkeypatch.setattr(ladder, "FROM_HIDDEN", 400)
    monkeypatch.setattr(ladder, "FEW_IMAGES", 100)
    monkeypatch.setattr(ladder, "MANY_IMAGES", 100)
    monkeypatch.setattr(mlp, "STEPS", 200)
    photos = Photos(n=400)
    xor(photos, 400)
    selection = photos.ladder(budget=budget).learn(first(backbone(widths=(6,))))
    assert selection.choice.kind == ("hidden" if is_tried else "softmax")
    (rung,) = of_name(selection, "head hidden")
    assert (rung.n_images == 400 and rung.accuracy > 0.9) if is_tried else rung.why.startswith("not tried: about")


def test_several_labels_an_image_climb_too(backbone):
    photos = Photos(n=200)
    labels = photos.rng.integers(0, 2, (200, 3)).astype(np.float32)
    photos.labels = labels
    photos.layers["first", 32, False] = [
        photos.rng.normal(0, 1, (200, 6)),
        labels @ photos.rng.normal(0, 3, (3, 20)) + photos.rng.normal(0, 0.5, (200, 20)),
        photos.rng.normal(0, 1, (200, 30)),
    ]
    selection = photos.ladder().learn(Candidate(Representation((backbone(),)), "sigmoid"))
    assert selection.representation.n_layers == 2 and selection.choice.head.output == "sigmoid"


# ---- the budget


@pytest.fixture
def clock(monkeypatch):
    """Time passes where codes are computed, and nowhere else."""

    def of(photos) -> Photos:
        monkeypatch.setattr(ladder, "time", types.SimpleNamespace(monotonic=lambda: photos.now))
        return photos

    return of


def test_no_budget_leaves_it_at_the_first_rung(backbone):
    photos = Photos()
    photos.shows("first", 0.1, 2, 2)
    selection = photos.ladder(budget=0).learn(first(backbone()))
    assert selection.representation == Representation((backbone(),)) and len(photos.asked) == 1
    assert {rung.why for rung in selection.rungs[1:]} <= {"not tried: the budget is 0"}
    assert all(rung.accuracy is None for rung in selection.rungs[1:])


def test_what_would_take_too_long_is_not_tried_and_told(clock, backbone):
    photos = clock(Photos(n=600, seconds=10))
    photos.shows("first", 0.3, 1, 0)
    photos.shows("first", 2, 2, 2, mirrored=True)
    selection = photos.ladder(budget=25).learn(first(backbone()))
    assert selection.representation.n_layers == 2  # the deeper codes were computed with the first
    (mirrored,) = of_name(selection, "mirrored")
    assert mirrored.why == "not tried: about 20 s, of the budget's 25 s 15 s are left"
    assert photos.now == pytest.approx(10 + 20 * 72 / 600)  # a few were timed
    again = clock(Photos(n=600, seconds=10))
    again.layers = photos.layers
    assert of_name(again.ladder(budget=35).learn(first(backbone())), "mirrored")[0].accuracy is not None


def test_codes_that_were_known_do_not_make_others_seem_free(clock, backbone):
    """As training does it: the first look's codes are there before the climb, and take no time."""
    photos = clock(Photos(n=600, seconds=10))
    photos.shows("first", 0.3, 0, 0)
    for name in ("second", "third", "fourth"):
        photos.shows(name, 0.3, 0, 0)
    photos.computed |= {("first", 32, False, (), row) for row in range(600)}
    others = [backbone(name, seed=seed) for name, seed in (("second", 1), ("third", 2), ("fourth", 3))]
    photos.ladder(budget=25, views=(), others=others).learn(first(backbone()))
    assert photos.now <= 25


def test_one_new_photo_among_many_that_are_kept_does_not_make_the_others_seem_dear(clock, backbone):
    photos = clock(Photos(n=600, seconds=1000))
    photos.shows("first", 0.3, 1, 0)
    for is_mirrored in (False, True):
        photos.computed |= {("first", 32, is_mirrored, (), row) for row in range(599)}
    selection = photos.ladder(budget=25).learn(first(backbone()))
    assert of_name(selection, "mirrored")[0].accuracy is not None


def test_a_backbone_that_fails_where_it_is_only_tried_does_not_end_the_run(backbone):
    photos = Photos()
    photos.shows("first", 0.3, 1, 0)
    original = photos.codes_of

    def codes_of(look, rows):
        if look.is_mirrored:
            raise BackboneError("codes of red.png are not finite")
        return original(look, rows)

    photos.codes_of = codes_of
    selection = photos.ladder().learn(first(backbone()))
    assert of_name(selection, "mirrored")[0].why == "not possible: codes of red.png are not finite"
    assert selection.representation.n_layers == 2


def test_a_network_without_weights_can_climb(backbone):
    photos = Photos()
    photos.shows("first", 1, 0, 0)
    selection = photos.ladder().learn(first(replace(backbone(), n_parameters=0)))
    assert of_name(selection, "mirrored")[0].accuracy is not None


# ---- the images to choose by


def test_choosing_sees_the_sample_and_the_end_sees_all(backbone, monkeypatch):
    monkeypatch.setattr(ladder, "FEW_IMAGES", 80)
    monkeypatch.setattr(ladder, "MANY_IMAGES", 80)
    photos = Photos()
    photos.shows("first", 0.3, 1, 0)
    selection = photos.ladder().learn(first(backbone()))
    chosen_by = set(sample(photos.digests, photos.labels, 3).tolist())
    *tried, (look, last) = photos.asked
    assert len(chosen_by) < 100 and all(set(rows.tolist()) == chosen_by for _, rows in tried)
    assert last.tolist() == list(range(240)) and look == selection.representation
    assert len(selection.choice.held_out) == 240 and {rung.n_images for rung in selection.rungs} == {len(chosen_by)}


def test_the_sample_holds_all_of_a_few_and_a_fifth_of_many(monkeypatch):
    monkeypatch.setattr(ladder, "FEW_IMAGES", 100)
    monkeypatch.setattr(ladder, "MANY_IMAGES", 300)
    for n, n_kept in ((70, 70), (400, 100), (1000, 200), (5000, 300)):
        kept = sample(digests(n), np.arange(n) % 2, 2)
        assert len(kept) == n_kept and (np.diff(kept) > 0).all()


def test_the_sample_is_the_same_images_in_any_order(monkeypatch):
    monkeypatch.setattr(ladder, "FEW_IMAGES", 50)
    monkeypatch.setattr(ladder, "MANY_IMAGES", 50)
    names, labels = digests(400), np.arange(400) % 7
    order = np.random.default_rng(0).permutation(400)
    one = {names[i] for i in sample(names, labels, 7)}
    other = {names[order[i]] for i in sample([names[i] for i in order], labels[order], 7)}
    assert one == other
    more = sample([*names, hashlib.sha256(b"new").digest()], np.append(labels, 0), 7)
    assert len(one ^ {[*names, None][i] for i in more}) <= 3  # one photo more moves hardly another


def test_the_sample_holds_classes_of_a_few_photos(monkeypatch):
    monkeypatch.setattr(ladder, "FEW_IMAGES", 50)
    monkeypatch.setattr(ladder, "MANY_IMAGES", 50)
    labels = np.zeros(500, int)
    labels[::100] = 1  # five photos of it
    labels[1::20] = 2  # 25
    kept = labels[sample(digests(500), labels, 3)]
    assert (kept == 1).sum() == 5 and (kept == 2).sum() >= 10
    multi_hot = np.stack([labels == c for c in range(3)], axis=1).astype(np.float32)
    assert multi_hot[sample(digests(500), multi_hot, 3)][:, 1].sum() == 5
