"""The report: what its sentences say of the numbers, and what is (and is not) in the page."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest
import simplejpeg

from headstart.data.splits import TEST
from headstart.report import page
from headstart.report.page import Explained, report_page
from headstart.report.sentences import classes, learning, result, trust
from headstart.report.sentences.advice import to_do
from headstart.runs.findings import Findings
from headstart.wording import listed
from support.records import HOSTILE, a_picture, about_of, everything_else, issues_of, some_findings


def page_data(page):
    """The JSON in the page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def pictures():
    return [a_picture(i) for i in range(60)]


# ---- readings


def test_the_result_says_how_many_of_how_many():
    about = about_of(some_findings())
    e = about["evaluation"]
    said = result.result(about)
    assert f"{e['n_images']:,} photos that it had never seen" in said and f"{100 * e['accuracy']:.1f} %" in said
    assert "partly luck" in result.chance(about)


def test_cross_validation_is_not_called_a_test():
    about = about_of(some_findings(test=0))
    assert about["evaluation"]["split"] == "cross-validation"
    assert "held out once" in result.result(about) and "never seen" not in result.result(about)
    assert any("cross-validation" in limit for limit in learning.limits(about))


def test_several_labels_are_all_to_be_right():
    about = about_of(some_findings(many=True))
    assert "all their labels and no other" in result.result(about)
    assert result.majority_class(about) is None and classes.confusion(about) is None
    assert "always" not in result.verdict(about)


def test_no_better_than_guessing_is_said_first():
    about = about_of(some_findings(n=90, right=0.0, test=1))
    assert "not shown to be better than always answering" in result.verdict(about)


def test_a_wide_interval_leaves_the_verdict_open_and_says_how_many_photos_it_takes():
    small, large = about_of(some_findings(n=120, right=0.9)), about_of(some_findings(n=4_000, right=0.9, test=1))
    assert "not yet a number to rely on" in result.verdict(small)
    n = int(re.search(r"About ([\d,]+) test photos would", result.verdict(small))[1].replace(",", ""))
    assert 300 < n < 1_200
    assert "a number to rely on for photos like these: about one answer in" in result.verdict(large)


@pytest.mark.parametrize(
    ("asked", "n_test", "said"),
    [
        (0.2, 86, "About 530 test photos would bring it to within 3 points, at a fifth kept for testing about 2,650 in all"),
        (0.25, 86, "at a quarter kept for testing about 2,120 in all"),
        (None, 86, "at 22 % kept for testing about 2,470 in all"),
        (0.2, 200, "at half kept for testing about 1,060 in all"),  # the data gives its own test split
    ],
)
def test_test_photos_are_told_from_all_photos(asked, n_test, said):
    e = {"split": "test", "n_images": 86, "n_correct": 75}
    about = {"evaluation": e, "arguments": {"test": asked}, "images": {"used": 400, "test": n_test}}
    assert said in result.photos_needed(about)
    assert result.photos_needed(about | {"run": "/runs/a"}).endswith("evaluate it on more")
    e["split"] = "cross-validation"
    assert result.photos_needed(about).startswith("About 530 photos would bring it to within 3 points; add photos")


def test_one_class_is_no_achievement():
    about = about_of(some_findings(classes=("all",)), ("all",))
    assert "not shown to be better" in result.verdict(about)
    assert "too few classes" in classes.classes(about)
    n = about["evaluation"]["n_images"]
    assert classes.confusion(about) == f"None of the {n} test photos is taken for another class."


def test_the_worst_pair_counts_both_ways_and_names_the_larger_first():
    about = about_of(some_findings())
    counts = np.array([[9, 1, 0], [4, 5, 1], [0, 0, 9]])
    said = classes.confusion(about, counts)
    taken = "“\u2068roses\u2069” is taken for “\u2068daisy\u2069” in 4 photos, and 1 the other way round"
    assert said.startswith(f"Of the 29 test and cross-validated photos, {taken}")
    assert "cannot tell them apart" in said and "make one class of the two" in said
    tuned = classes.confusion(about | {"choice": {"head": "fine-tuned"}}, counts)
    assert tuned.startswith("Of the 29 test and validation photos, ")


def test_of_two_classes_none_is_to_be_joined():
    two = ("open", "globular")
    said = classes.confusion(about_of(some_findings(classes=two), two), np.array([[9, 3], [4, 5]]))
    assert "mend the labels; where you can, add" in said and "one class" not in said


def test_where_one_of_the_pair_is_rare_its_photos_would_help():
    about = about_of(some_findings()) | {"images_of_class": {"daisy": 200, "roses": 20, "tulips": 90}}
    said = classes.confusion(about, np.array([[9, 1, 0], [4, 5, 1], [0, 0, 9]]))
    assert said.endswith("more photos of “\u2068roses\u2069” would help most.")


@pytest.mark.parametrize(
    ("probability", "error", "said"),
    [
        (0.95, 0.02, "as sure as it should be, as far as 100 photos can tell"),
        (0.95, 0.06, "It may be a little surer than it should be"),
        (0.95, 0.15, "It is surer"),
        (0.6, 0.02, "as sure as it should be, as far as"),
        (0.6, 0.1, "It may be a little less sure"),
        (0.6, 0.15, "It is less sure"),
    ],
)
def test_surer_than_it_should_be(probability, error, said):
    bins = [{"probability": probability, "accuracy": 0.8, "n": 100, "interval": [0.7, 0.9]}]
    c = {"n_images": 100, "error_before": 0.2, "error_after": error, "bias": 0.03, "bins": bins}
    sentence = trust.calibration({"calibration": c})
    assert said in sentence
    differ, luck = (float(p) for p in re.findall(r"([\d.]+) points", sentence)[:2])
    assert (differ <= luck) == ("as sure as" in sentence)  # the words are what the numbers say
    assert trust.is_off({"calibration": c}) == (error == 0.15)


def test_what_is_too_small_to_matter_is_no_fault_however_many_photos_there_are():
    bins = [{"probability": 0.9, "accuracy": 0.892, "n": 100_000, "interval": [0.89, 0.894]}]
    c = {"n_images": 100_000, "error_before": 0.008, "error_after": 0.008, "bias": 0.001, "bins": bins}
    assert "differ by 0.8 points on average, too little to matter" in trust.calibration({"calibration": c})
    assert not trust.is_off({"calibration": c})


def test_perfect_probabilities_are_seldom_called_off():
    """The limits hold what they say: about 1 in 20 perfect classifiers seems a little off, next to none clearly."""
    rng, told = np.random.default_rng(0), []
    p = np.sort(rng.uniform(0.5, 1, (400, 130)), axis=1).reshape(400, 10, 13)
    right = rng.random(p.shape) < p
    errors = np.abs(p.mean(axis=2) - right.mean(axis=2)).mean(axis=1)
    for i in range(400):
        bins = [{"probability": a, "accuracy": b, "n": 13} for a, b in zip(p[i].mean(1), right[i].mean(1), strict=True)]
        c = {"n_images": 130, "error_before": None, "error_after": errors[i], "bias": errors.mean(), "bins": bins}
        told.append(("may be" in trust.calibration({"calibration": c}), trust.is_off({"calibration": c})))
    little, clearly = np.mean(told, axis=0)
    assert 0.01 < little < 0.12 and clearly < 0.02


@pytest.mark.parametrize(("learnt", "n", "said"), [(0.92, 50, "no sign"), (1.0, 5_000, "knows its own photos better")])
def test_overfitting_is_a_gap_beyond_chance(learnt, n, said):
    step = {"step": 9, "train_accuracy": learnt, "validation_accuracy": 0.88, "validation_cross_entropy": 0.4}
    assert said in learning.overfitting(
        {"fitting": {"n_train": 4 * n, "n_validation": n, "steps": [step]}, "images": {"used": 5 * n}}
    )


def fitted(learnt, new, n, **images):
    step = {"step": 9, "train_accuracy": learnt, "validation_accuracy": new}
    return {"fitting": {"n_train": 4 * n, "n_validation": n, "steps": [step]}, "images": images}


@pytest.mark.parametrize(
    ("new", "n", "is_told"),
    [
        (0.80, 26, False),  # 21 of 26: 92 % is as likely
        (0.846, 26, False),  # star clusters, whose cross-validation says 91 %
        (0.70, 100, True),
        (0.85, 5_000, True),
        (0.88, 200, False),
        (0.96, 100_000, False),  # beyond chance, and nothing to worry about
        (0.995, 100_000, False),
    ],
)
def test_overfitting_is_an_alarm_where_much_is_lost_beyond_chance(new, n, is_told):
    about = fitted(1.0, new, n, train=4 * n, validation=n)
    assert learning.is_overfitting(about) == is_told
    assert ("is large" in learning.overfitting(about)) == is_told
    assert new < 0.95 or "better than new ones" not in learning.overfitting(about)


def test_of_a_handful_of_photos_no_sentence_says_more_than_they_do():
    few = fitted(1.0, 1.0, 1, train=4, validation=0)
    assert "only 1 photo could be kept from it" in learning.overfitting(few) and not learning.is_overfitting(few)
    bins = [{"probability": 0.7, "accuracy": 0.5, "n": 4}]
    c = {"n_images": 4, "error_before": None, "error_after": 0.15, "bias": 0.0, "bins": bins}
    assert trust.calibration({"calibration": c}).startswith(
        "4 photos are too few to tell whether it is as sure as it should be"
    )
    about = about_of(some_findings())
    e = about["evaluation"]
    perfect = {**about, "evaluation": {**e, "n_correct": e["n_images"], "accuracy": 1.0, "interval": [0.1, 1.0]}}
    assert "mistakes" not in result.verdict(perfect) and result.verdict(perfect).endswith(
        "Do not rely on it yet: add photos."
    )
    assert any("none of its answers was wrong; on more photos, some will be" in limit for limit in learning.limits(perfect))


def test_the_ladder_does_not_call_it_a_rise_where_there_is_none():
    def rung(accuracy, is_taken):
        return {"accuracy": accuracy, "is_taken": is_taken, "n_images": 10}

    about = {"evaluation": {"split": "test"}, "images": {"used": 12, "test": 2}}
    none = learning.ladder({**about, "ladder": [rung(0.5, True), rung(0.4, False)]})
    assert none == "After the simplest way, 1 more was tried by cross-validation, and none was better: 50.0 %."
    same = learning.ladder({**about, "ladder": [rung(0.5, True), rung(0.5, True)]})
    assert "50.0 % as before, with probabilities that fit better" in same and "to 50.0 %" not in same
    assert "from 50.0 % to 60.0 %" in learning.ladder({**about, "ladder": [rung(0.5, True), rung(0.6, True)]})


def test_a_gap_on_a_sample_is_no_alarm():
    about = fitted(1.0, 0.7, 200, train=40_000, validation=8_000)
    assert not learning.is_overfitting(about)
    assert "With all its photos the gap is usually narrower" in learning.overfitting(about)


def test_a_rise_of_cross_entropy_is_no_alarm():
    same = {"train_accuracy": 1.0, "validation_accuracy": 0.7}
    steps = [{"step": s, "validation_cross_entropy": 0.5 + abs(s - 3) / 10, **same} for s in range(9)]
    said = learning.overfitting(
        {"fitting": {"n_train": 3_600, "n_validation": 900, "steps": steps}, "images": {"used": 4_500}}
    )
    assert "kept from it" in said and "worse" not in said


def test_what_was_not_measured_is_not_spoken_of():
    about = about_of(some_findings())
    for reading in (trust.calibration, learning.overfitting, trust.unfamiliar, learning.more_photos, learning.ladder):
        assert reading(about) is None
        assert reading(about | {"calibration": None, "fitting": None, "unfamiliar": None, "learning_curve": None}) is None


def test_a_leak_comes_first_of_all():
    f = some_findings(n=400)
    found = to_do(about_of(f), issues_of(f))
    assert "Leaks" in found[0].text and "too good" in found[0].text
    assert "Look at the labels" in found[1].text
    assert len(found) == 3 and found[2].section != "issues"


def an_issue(kind, score, *labels):
    return {"kind": kind, "score": score, "labels": list(labels), "paths": []}


def test_wrong_labels_come_before_all_but_leaks():
    f = some_findings(n=120, right=0.5)
    issues = [an_issue("label", 0.02 + i / 100, "roses") for i in range(5)] + [an_issue("duplicate", 0.0, "roses", "tulips")]
    issues += [an_issue("outlier", 0.3, "roses")] * 90 + [an_issue("duplicate", 0.4, "roses", "roses")] * 9
    found = to_do(about_of(f), issues)
    said = "5 photos seem labelled wrongly and 1 photo stands there more than once, labelled differently."
    assert found[0].section == "issues" and said in found[0].text
    assert [t.section for t in found].count("issues") == 1
    one = to_do(about_of(f), [an_issue("label", 0.02, "roses"), an_issue("leak", 0.0, "roses", "roses")])
    assert "Leaks" in one[0].text and "1 photo seems labelled wrongly." in one[1].text
    assert not any("seem" in t.text for t in to_do(about_of(f), [an_issue("label", 0.4, "roses")]))


def test_the_class_that_is_noticed_least_is_named_with_its_share():
    f = some_findings(n=4_000, right=1.0, test=1)
    rows = [
        {"label": "daisy", "n": 20, "auroc": 0.9, "auroc_max_probability": 0.9, "flagged": 0.09},
        {"label": "roses", "n": 20, "auroc": 0.7, "auroc_max_probability": 0.9, "flagged": 0.34},
    ]
    (found,) = to_do(about_of(f, unfamiliar={"left_out": rows}))
    assert found.section == "unfamiliar"
    assert "trained without “\u2068daisy\u2069” for a trial, it flagged 9.0 % of these photos." in found.text
    for row in rows:
        row["flagged"] = 0.7
    assert not to_do(about_of(f, unfamiliar={"left_out": rows}))


def test_files_that_were_left_out_are_called_so():
    f = some_findings(n=4_000, right=1.0, test=1)
    about = about_of(f)
    about["images"]["skipped"] = 31
    assert [t.text for t in to_do(about)] == ["31 files were left out: skipped.csv says why."]
    about["images"]["skipped"] = 1
    assert [t.text for t in to_do(about | {"run": "/runs/a"})] == ["1 file was left out: skipped.csv and the notes say why."]


def test_one_of_a_thing_is_told_as_one():
    about = about_of(some_findings()) | {"images_of_class": {"daisy": 1, "roses": 0, "tulips": 90}}
    about["images"] |= {"train": 1, "validation": 0, "skipped": 1}
    everything = "\n".join(t.text for t in to_do(about)) + str(page.card_of(about)) + result.verdict(about)
    assert "1 photo'" in everything and not re.search(r"\b1 (photos|files|issues)\b", everything)


def test_an_evaluation_names_the_run_and_what_was_compared():
    f = some_findings(test=1)
    about = about_of(f, run="/runs/my run", comparison={"sentence": "It is not decided."}, **everything_else(f))
    data = page_data(report_page(about, f))
    assert data["run"] == "my run" and data["sentences"]["comparison"] == "It is not decided."
    photos = dict(dict(data["card"])["Photos"])
    assert photos["run that was judged"] == "/runs/my run" and "train" not in photos
    about |= {"comparison": None, "unfamiliar": {"test": {"n": 9, "flagged": 1}}}
    data = page_data(report_page(about, f))
    assert data["sentences"]["comparison"] is None
    assert data["sentences"]["unfamiliar"] is None  # those 9 are the run's own test photos, not these
    assert page_data(report_page(about_of(f), f))["run"] is None


def test_what_was_before_is_there_only_where_something_was_corrected():
    f = some_findings()
    about = about_of(f, **everything_else(f))
    assert page_data(report_page(about, f))["calibration"]["bins_before"]
    about["calibration"]["bins_before"] = about["calibration"]["bins"]
    assert page_data(report_page(about, f))["calibration"]["bins_before"] is None


def test_a_share_is_rounded_once():
    share = 0.8944999  # 89.4 %; of five digits it would be 0.8945
    assert f"{100 * page._json_value(share):.1f}" == f"{100 * share:.1f}" == "89.4"


def test_a_class_that_fails_beyond_chance_is_to_be_looked_at():
    f = some_findings(n=900, right=1.0, test=1)
    f.probabilities[f.labels == 2] = (0.9, 0.05, 0.05)
    texts = [t.text for t in to_do(about_of(f))]
    assert any("only 0.0 % of its photos are found" in t for t in texts) and any("taken for one another" in t for t in texts)


# ---- the page


def test_the_page_is_whole_and_names_nothing_outside(pictures):
    f = some_findings()
    page = report_page(about_of(f, **everything_else(f)), f, issues=issues_of(f), pictures=pictures)
    assert page.startswith("<!doctype html>") and "{{" not in page.split('id="data">')[0]
    without_data = re.sub(r'id="data">.*?</script>', "", page, flags=re.S)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", without_data))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a namespace, never asked for
    assert not re.findall(
        r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|innerHTML|outerHTML|eval)\b", without_data
    )


def test_scripts_end_where_they_should():
    for name in ("report.js", "map.js"):
        assert "</script" not in page._web_file(name).lower()
    assert "</style" not in page._web_file("report.css").lower()


def test_hostile_names_stay_data():
    classes = HOSTILE
    names = [f"/photos/{HOSTILE[i % len(HOSTILE)]}/{i}.jpg" for i in range(70)]
    f = some_findings(70, classes, names=names)
    about = about_of(f, classes, notes=["<img src=x onerror=alert(1)>"])
    page = report_page(about, f, issues=issues_of(f, kinds=("<b>odd</b>",)))
    page.encode("utf-8")
    assert "alert(1)</script>" not in page and "<img src=x" not in page
    data = page_data(page)
    assert data["classes"] == list(HOSTILE) and data["photos"]["name"] == names

    class Tags(html.parser.HTMLParser):
        n_scripts = 0

        def handle_starttag(self, tag, attrs):
            self.n_scripts += tag == "script"

    tags = Tags()
    tags.feed(page)
    assert tags.n_scripts == 3  # data, map, report


def test_cells_hold_each_photo_that_was_held_out_once():
    f = some_findings(n=200)
    data = page_data(report_page(about_of(f), f))
    assert sum(c[2] for c in data["cells"]["all"]) == 200
    assert sum(c[2] for c in data["cells"]["test"]) == (f.splits == TEST).sum()
    assert (
        sum(n for i, j, n in data["cells"]["all"] if i != j) == data["n_mistakes"] == data["photos"]["is_right"].count(False)
    )


def test_with_several_labels_a_photo_is_missed_or_given_wrongly():
    f = some_findings(many=True, test=1.0)  # all are judged by the run's own thresholds
    about = about_of(f)
    data = page_data(report_page(about, f))
    given, truth = f.probabilities >= 0.5, f.labels > 0
    told = {(i, j): n for i, j, n in data["cells"]["all"]}
    for i in range(3):
        assert told.get((i, 0), 0) == (given & truth)[:, i].sum()
        assert told.get((i, 1), 0) == (~given & truth)[:, i].sum()
        assert told.get((i, 2), 0) == (given & ~truth)[:, i].sum()
    assert data["photos"]["label"][0] == np.flatnonzero(f.labels[0]).tolist()


def test_the_surest_mistake_comes_first(pictures):
    f = some_findings(right=0.5)
    data = page_data(report_page(about_of(f), f, pictures=pictures))
    said = [data["photos"]["probability"][m["photo"]] for m in data["mistakes"]]
    assert said == sorted(said, reverse=True) and len(said) == 12
    assert not any(data["photos"]["is_right"][m["photo"]] for m in data["mistakes"])


def test_explanations_are_of_their_photos(pictures):
    f = some_findings(right=0.5)
    wrong = np.flatnonzero(f.probabilities.argmax(axis=1) != f.labels)
    heat = np.linspace(0, 1, 54, dtype=np.float32).reshape(6, 9)
    explained = [Explained(int(row), pictures[row], heat, (0, 1, 2)) for row in wrong[:3]]
    mistakes = page_data(report_page(about_of(f), f, pictures=pictures, explained=explained))["mistakes"]
    assert sorted(m["photo"] for m in mistakes) == wrong[:3].tolist() and mistakes[0]["nearest"] == [0, 1, 2]
    rows, columns, content = mistakes[0]["heat"]
    assert np.frombuffer(base64.b64decode(content), np.uint8).tolist() == (heat * 255).astype(np.uint8).ravel().tolist()
    assert (rows, columns) == (6, 9)


def test_without_photos_there_are_no_pictures_and_the_page_can_tell():
    f = some_findings()
    data = page_data(report_page(about_of(f), f))
    assert data["sprites"] is None and len(data["missing"]) == 60
    some = page_data(report_page(about_of(f), f, pictures=[None, *[a_picture(1)] * 59]))
    assert some["missing"] == [0] and some["sprites"]["side"] == 64


def test_pictures_are_one_for_each_photo():
    f = some_findings()
    with pytest.raises(ValueError, match="59 pictures of 60 photos"):
        report_page(about_of(f), f, pictures=[a_picture(1)] * 59)


def test_no_position_no_unfamiliarity_no_number_is_no_harm():
    f = some_findings()
    f.unfamiliarity[:] = np.nan
    data = page_data(report_page(about_of(f), f))
    assert data["photos"]["x"] is None and data["familiarity"] is None


def test_an_empty_bin_and_a_class_that_could_not_be_left_out_are_no_harm():
    empty = {"probability": None, "accuracy": None, "n": 0, "interval": None}
    f = some_findings()
    about = about_of(f, **everything_else(f))
    about["calibration"] = {**about["calibration"], "bins": [empty, *about["calibration"]["bins"]], "error_after": 0.2}
    about["unfamiliar"]["left_out"].append({"label": "tulips", "n": 0, "auroc": None, "flagged": None})
    assert page_data(report_page(about, f))["sentences"]["calibration"].startswith("It is ")


def test_one_photo_and_nothing_held_out():
    one = some_findings(1, ("all",), test=1)
    assert page_data(report_page(about_of(one, ("all",)), one))["evaluation"]["n_images"] == 1
    f = some_findings()
    none = Findings(**{**f.__dict__, "held_out": np.zeros(0, np.int64), "probabilities": np.zeros((0, 3), np.float32)})
    data = page_data(report_page(about_of(f), none))
    assert data["cells"] == {"test": [], "all": []} and data["mistakes"] == []


def test_of_many_photos_the_mistakes_are_kept_first():
    f = some_findings(100_000, right=0.97)
    data = page_data(report_page(about_of(f), f))
    wrong = (f.probabilities.argmax(axis=1) != f.labels).sum()
    assert len(data["photos"]["name"]) == page.MOST_PHOTOS and data["n_photos"] == 100_000
    assert data["photos"]["is_right"].count(False) == data["n_mistakes"] == wrong < page.MOST_PHOTOS
    assert sum(c[2] for c in data["cells"]["all"]) == 100_000


def test_a_page_of_5_000_photos_is_under_5_mb_however_rough_they_are():
    rng = np.random.default_rng(0)
    rough = [
        simplejpeg.encode_jpeg(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), quality=90, colorspace="RGB")
        for _ in range(20)
    ]
    f = some_findings(5_000, is_mapped=True)
    wrong = np.flatnonzero(f.probabilities.argmax(axis=1) != f.labels)[:24]
    explained = [Explained(int(i), a_picture(i, 288), rng.random((9, 9)), (1, 2)) for i in wrong]
    about, pictures = about_of(f, **everything_else(f)), [rough[i % 20] for i in range(5_000)]
    page = report_page(about, f, issues=issues_of(f, n=900), pictures=pictures, explained=explained)
    assert len(page.encode()) < 5_000_000
    assert page_data(page)["sprites"]["side"] == 48


def test_copies_among_the_judges_are_told_and_count_as_one():
    about = about_of(some_findings())
    n = about["evaluation"]["n_images"]
    assert "different" not in result.chance(about) + result.verdict(about)
    about["evaluation"] |= {"n_different": 4, "interval": (0.5, 0.95)}
    assert f"With {n} photos, 4 of them different (copies count as one), that is" in result.chance(about)
    assert "only 4 different photos judged it" in result.verdict(about)
    assert "Only 4 different photos judged the result" in " ".join(t.text for t in to_do(about))


def test_a_class_that_no_photo_judged_is_not_praised():
    about = about_of(some_findings(right=1.0))
    assert classes.classes(about) == "All classes are found equally often: 100.0 % of their photos."
    about["evaluation"]["classes"][2] |= {"support": 0, "recall": None, "precision": None, "f1": None}
    told = classes.classes(about)
    assert "No test photo is of “\u2068tulips\u2069”: how well that is found is not known." in told
    assert "The other 2 classes are found equally often" in told and "All classes" not in told
    about["evaluation"]["classes"][1] |= {"support": 0, "recall": None, "precision": None, "f1": None}
    assert "“\u2068roses\u2069” or “\u2068tulips\u2069”" in classes.classes(about)


def test_names_are_listed_as_people_list_them():
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b" and listed([]) == ""
    assert listed(["a", "b", "c"], "or") == "a, b or c"
    assert listed([str(i) for i in range(8)]) == "0, 1, 2, 3, 4 and 3 more"


def test_a_ladder_on_a_sample_says_so():
    about = about_of(some_findings())
    rung = {"name": "last layer", "look": "", "accuracy": 0.9, "interval": (0.8, 0.95), "cross_entropy": 0.3, "n_images": 30}
    about["ladder"] = [rung | {"is_taken": True}, rung | {"is_taken": False}]
    about["images"] = {"used": 60, "test": 12, "skipped": 0}
    assert "on a sample of 30 of the 48 photos to learn from" in learning.ladder(about)
    about["images"] = {"used": 42, "test": 12, "skipped": 0}
    assert "sample" not in learning.ladder(about)
