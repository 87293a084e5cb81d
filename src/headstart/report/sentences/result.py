"""Readings: what a run's numbers say, each in one sentence for somebody who has never trained a classifier.

Takes run.json as a dict, and counts of confusions; gives plain text. It decides which differences are worth a word, and
which are chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from headstart.intervals import Z95, share_interval, wilson_interval
from headstart.wording import listed

WIDE = 0.10  # an interval wider than this leaves the accuracy open
AIM = 0.03  # what "about so many test photos would do" aims at: the accuracy to within 3 points
FEW_OF_CLASS = 10  # test photos of a class, below which its own numbers are mostly luck
PATTERN = 3  # confusions between two classes, below which they are single cases
LITTLE = 0.05  # of new photos wrong: too few for a gap to matter
UNEVEN = 5.0  # times as many photos of one class as of another
SHARES = {0.1: "a tenth", 0.2: "a fifth", 0.25: "a quarter", 0.5: "half"}  # kept for testing
SELDOM, NEVER = 1.64, 3.0  # spreads above what chance makes on average: 1 time in 20, and next to never


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "-" if share is None else f"{100 * share:.1f} %"


def whole_percent(share: float) -> str:
    """A share as people read it where tenths say nothing."""
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """A difference of two shares as people read it."""
    return f"{100 * abs(difference):.1f} points"


def counted(n: int, thing: str) -> str:
    """A number and what it counts: `1 photo`, `1,200 photos`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def are_several(about: dict[str, Any]) -> bool:
    """Whether a photo may have several labels."""
    return about.get("thresholds") is not None


def is_tested(about: dict[str, Any]) -> bool:
    """Whether the result comes from a test split, and not from cross-validation."""
    return bool(about["evaluation"]["split"] == "test")


def is_evaluation(about: dict[str, Any]) -> bool:
    """Whether a finished run was judged by other photos, and nothing was learnt."""
    return about.get("run") is not None


def is_balanced(about: Mapping[str, Any]) -> bool:
    """Whether every class counts the same, however many photos it has (--balance), and what that gave is known."""
    asked = (about.get("arguments") or {}).get("balance")
    return bool(asked) and about["evaluation"].get("balanced_accuracy") is not None


def others(about: dict[str, Any]) -> str:
    """What photos are that were held out but are no test photos."""
    return "validation" if (about.get("choice") or {}).get("head") == "fine-tuned" else "cross-validated"


# ---- the result


def result(about: dict[str, Any]) -> str:
    """How good it is."""
    e = about["evaluation"]
    if are_several(about):
        what = f"gave {e['n_correct']:,} of them all their labels and no other"
    else:
        what = f"labelled {e['n_correct']:,} of them correctly"
    alike = ""
    if is_balanced(about):
        every = "Every class" if all(c["support"] for c in e["classes"]) else "Every class that such photos are of"
        alike = f" {every} counted alike, that is {percent(e['balanced_accuracy'])} (balanced accuracy)."
    if is_tested(about):
        seen = f"It was tested on {counted(e['n_images'], 'photo')} that it had never seen"
        return f"{seen}, and {what}: {percent(e['accuracy'])}.{alike}"
    return (
        f"There were no photos to spare for a test, so each of {counted(e['n_images'], 'photo')} was held out once "
        f"(cross-validation). It {what}: {percent(e['accuracy'])}.{alike}"
    )


def chance(about: dict[str, Any]) -> str:
    """What the 95 % interval means."""
    e = about["evaluation"]
    low, high = e["interval"]
    luck = "a number that is partly luck" if high - low > WIDE else "little left to luck"
    n_different = e.get("n_different", e["n_images"])
    copies = f", {n_different:,} of them different (copies count as one)," if n_different < e["n_images"] else ""
    return (
        f"With {counted(e['n_images'], 'photo')}{copies} that is {luck}: on many more photos of the same kind it would "
        f"probably be right for between {percent(low)} and {percent(high)} (95 % interval).{_balanced_chance(about)}"
    )


def _balanced_chance(about: dict[str, Any]) -> str:
    if not is_balanced(about):
        return ""
    low, high = about["evaluation"]["balanced_interval"]
    return f" The balanced accuracy would be between {percent(low)} and {percent(high)}."


def verdict(about: dict[str, Any]) -> str:
    """Whether that can be relied on, and what to do next."""
    e = about["evaluation"]
    if is_balanced(about):
        low, high = e["balanced_interval"]
        always: tuple[str, float] | None = ("any one class", 1 / sum(c["support"] > 0 for c in e["classes"]))
    else:
        (low, high), guess = e["interval"], guessing(about)
        always = guess and (quoted(guess[0]), guess[1])
    if always is not None and low <= always[1]:
        alike = " where every class counts alike" * is_balanced(about)
        return (
            f"This is not shown to be better than always answering {always[0]}, which would be right for "
            f"{percent(always[1])}{alike}. Do not rely on it yet: "
            f"{'look at the labels and the mistakes below, then ' if e['n_correct'] < e['n_images'] else ''}add photos."
        )
    better = "" if always is None else f"Much better than always answering {always[0]} ({percent(always[1])}), but "
    if high - low > WIDE and is_balanced(about):
        rarest = min((c for c in e["classes"] if c["support"]), key=lambda c: c["support"])
        return (
            f"{better}not yet a number to rely on: the interval of the balanced accuracy is {points(high - low)} wide. Only "
            f"{counted(rarest['support'], 'photo')} of {quoted(rarest['label'])} judged it: add photos of the rarest "
            f"classes and {'evaluate it on more' if is_evaluation(about) else 'train again'}."
        )
    if high - low > WIDE:
        return (
            f"{better or 'This is '}not yet a number to rely on: the interval is {points(high - low)} wide, because only "
            f"{judges(e)} judged it. {needed(about)}."
        )
    return (
        f"This is a number to rely on for photos like these: {_wrong_in_words(e)}. Whether you can live with that depends "
        "on what a wrong answer costs; the worst mistakes below show what they look like."
    )


def judges(e: dict[str, Any]) -> str:
    """How many photos judged, copies of one counted once."""
    n_different = e.get("n_different", e["n_images"])
    return counted(n_different, "photo" if n_different == e["n_images"] else "different photo")


def guessing(about: dict[str, Any]) -> tuple[str, float] | None:
    """The commonest class and its share: what is right without looking; None where a photo may have several labels."""
    of_class = about.get("images_of_class") or {}
    if are_several(about) or not sum(of_class.values()):
        return None
    name = max(of_class, key=lambda c: of_class[c])
    return name, of_class[name] / sum(of_class.values())


def quoted(name: str) -> str:
    """A class's name within a sentence; isolated, so that one written from right to left turns nothing else around."""
    return f"“\u2068{name}\u2069”"


def n_needed(e: dict[str, Any]) -> int:
    """How many photos would pin an evaluation's accuracy down to AIM (Agresti & Coull 1998)."""
    share = (e["n_correct"] + 2) / (e["n_images"] + 4)  # never 0 or 1
    return math.ceil(Z95**2 * share * (1 - share) / AIM**2 / 10) * 10


def needed(about: dict[str, Any]) -> str:
    """How many photos would pin the accuracy down, and how to come to so many."""
    n = n_needed(about["evaluation"])
    if is_evaluation(about):
        return f"About {n:,} photos would bring it to within 3 points; evaluate it on more"
    if not is_tested(about):
        return f"About {n:,} photos would bring it to within 3 points; add photos and train again"
    share = _test_share(about)
    kept, n_all = SHARES.get(round(share, 2), whole_percent(share)), math.ceil(n / share / 10) * 10
    return (
        f"About {n:,} test photos would bring it to within 3 points, at {kept} kept for testing about {n_all:,} in all; "
        "add photos and train again"
    )


def _test_share(about: dict[str, Any]) -> float:
    """The share of photos that are test photos: as asked for, but where it shows that the data itself gave another."""
    n_test, n = about["images"].get("test") or about["evaluation"]["n_images"], about["images"]["used"]
    asked = (about.get("arguments") or {}).get("test")
    low, high = wilson_interval(min(n_test, n), n)
    return float(asked) if asked and low <= asked <= high else min(n_test, n) / n


def _wrong_in_words(e: dict[str, Any]) -> str:
    wrong = 1 - e["accuracy"]
    if wrong == 0:
        return "none of its answers was wrong"
    if wrong > 0.3:
        return f"{percent(wrong)} of its answers are wrong"
    return f"about one answer in {round(1 / wrong):,} is wrong"


# ---- classes and confusions


def classes(about: dict[str, Any]) -> str:
    """Which class does worst, and which nobody has judged."""
    known = [c for c in about["evaluation"]["classes"] if c["recall"] is not None]
    unjudged = [quoted(c["label"]) for c in about["evaluation"]["classes"] if not c["support"]]
    judged_by = "test photo" if is_tested(about) else "photo"
    missing = f" No {judged_by} is of {listed(unjudged, 'or')}: how well that is found is not known." if unjudged else ""
    if len(known) < 2:
        return f"There are too few classes with photos to compare them.{missing}"
    worst, best = min(known, key=lambda c: c["recall"]), max(known, key=lambda c: c["recall"])
    if worst["recall"] == best["recall"]:
        which = f"The other {len(known):,} classes" if unjudged else "All classes"
        return f"{missing} {which} are found equally often: {percent(best['recall'])} of their photos.".strip()
    few = worst["support"] < FEW_OF_CLASS
    luck = f", though {counted(worst['support'], 'photo')} cannot say much" if few else ""
    return (
        f"It misses {quoted(worst['label'])} most: it finds {percent(worst['recall'])} of these photos{luck}; "
        f"of {quoted(best['label'])} it finds {percent(best['recall'])}.{missing}"
    )


def confused(about: dict[str, Any], counts: np.ndarray | None = None) -> str | None:
    """Which two classes are confused, and what would help; counts: (k, k), rows are labels, by default of the test.

    None where a photo may have several labels.
    """
    counts = confusion_counts(about) if counts is None else counts
    if counts is None:
        return None
    pair = worst_pair(counts)
    if pair is None:
        return f"None of the {judged_by(about, counts)} is taken for another class."
    (i, j), names = pair, about["classes"]
    a, b, n = quoted(names[i]), quoted(names[j]), int(counts[i, j] + counts[j, i])
    of = f"Of the {judged_by(about, counts)}, " if counts.sum() != about["evaluation"]["n_images"] else ""
    taken = f"{of}{a} is taken for {b} in {counted(int(counts[i, j]), 'photo')}"
    if n < PATTERN:
        return f"{taken}; no two classes are confused more often."
    back = f", and {counts[j, i]:,} the other way round" if counts[j, i] else ""
    return f"{taken}{back}. {_what_would_help(about, names[i], names[j])}"


def judged_by(about: dict[str, Any], counts: np.ndarray) -> str:
    """Which photos counts of confusions, (k, k), are of."""
    n, n_test = int(counts.sum()), about["evaluation"]["n_images"] if is_tested(about) else 0
    kinds = ["test"] * bool(n_test) + [others(about)] * (n > n_test)
    return counted(n, f"{' and '.join(kinds)} photo")


def _what_would_help(about: dict[str, Any], a: str, b: str) -> str:
    of_class = about.get("images_of_class") or {}
    fewer, more = sorted((a, b), key=lambda c: of_class.get(c, 0))
    if of_class.get(more, 0) > UNEVEN * of_class.get(fewer, 0):
        return (
            f"{quoted(more)} has {counted(of_class[more], 'photo')} and {quoted(fewer)} {of_class.get(fewer, 0):,}: "
            f"more photos of {quoted(fewer)} would help most."
        )
    join = " or make one class of the two" if len(about["classes"]) > 2 else ""
    return (
        f"Look at these photos: where you cannot tell them apart either, mend the labels{join}; "
        "where you can, add photos of both that show the difference."
    )


def confusion_counts(about: dict[str, Any]) -> np.ndarray | None:
    """How often each label got each prediction when the result was judged, (k, k); None where a photo has several labels."""
    confusion = about["evaluation"].get("confusion")
    return None if confusion is None else np.array(confusion, np.int64)


def worst_pair(counts: np.ndarray) -> tuple[int, int] | None:
    """The two classes that are confused most, by counts (k, k): label and prediction of the commoner mistake first."""
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    i, j = np.unravel_index(int(both.argmax()), both.shape)
    if not both[i, j]:
        return None
    return (int(i), int(j)) if counts[i, j] >= counts[j, i] else (int(j), int(i))


# ---- how sure, how familiar


def surer(about: dict[str, Any]) -> str | None:
    """Whether it is surer than it should be; None where calibration was not measured."""
    c = about.get("calibration")
    if not c or not c.get("bins"):
        return None
    after, luck = c["error_after"], _by_luck(c)
    alike = ", every class counted alike," if c.get("is_balanced") else ""
    n, differ = counted(c["n_images"], "photo"), f"what it says and how often it is right{alike} differ by"
    before = f" Before it was corrected, the difference was {points(c['error_before'])}." if _is_mended(c) else ""
    if luck > 2 * WIDE and not is_off(about):
        by_chance = f"chance alone could make a difference of {points(luck)}"
        return f"{n} are too few to tell whether it is as sure as it should be: {by_chance}."
    if after <= luck:
        return (
            f"It is as sure as it should be, as far as {n} can tell: {differ} {points(after)} on average, and chance alone "
            f"could make that {points(luck)}.{before}"
        )
    if after < 0.01:
        return f"It is as sure as it should be: {differ} {points(after)} on average, too little to matter.{before}"
    way, advice = _direction(c)
    if not is_off(about):
        return (
            f"It may be a little {way} than it should be: {differ} {points(after)} on average, and on {n} chance alone "
            f"would seldom make that more than {points(luck)}.{before}"
        )
    return (
        f"It is {way} than it should be: {differ} {points(after)} on average, where chance alone would seldom "
        f"make that more than {points(luck)}.{before} {advice}"
    )


def is_off(about: dict[str, Any]) -> bool:
    """Whether probabilities are off by more than chance can make them, and by enough to matter."""
    c = about.get("calibration")
    return bool(c and c.get("bins") and c["error_after"] >= 0.01 and c["error_after"] > _by_luck(c, NEVER))


def is_corrected(c: dict[str, Any]) -> bool:
    """Whether calibration changed any probability; c: about["calibration"]."""
    return bool(c.get("bins_before")) and c["bins_before"] != c["bins"]


def _by_luck(c: dict[str, Any], n_spreads: float = SELDOM) -> float:
    """The calibration error that perfect probabilities stay below, but for luck.

    Each bin's share of right ones spreads binomially around its probability; what counts of it is its size, half a normal
    distribution, whose variance is 1 - 2 / pi of the whole one's.
    """
    bins = [b for b in c["bins"] if b["n"]]
    n = sum(b["n"] for b in bins) or 1
    variance = sum(
        b.get("share", b["n"] / n) ** 2 * b["probability"] * (1 - b["probability"]) / b.get("n_effective", b["n"])
        for b in bins
    )
    return float((c.get("bias") or 0.0) + n_spreads * math.sqrt(max(0.0, variance) * (1 - 2 / math.pi)))


def _is_mended(c: dict[str, Any]) -> bool:
    return c.get("error_before") is not None and c["error_before"] - c["error_after"] > 0.005


def _direction(c: dict[str, Any]) -> tuple[str, str]:
    over = sum(b.get("share", b["n"]) * (b["probability"] - b["accuracy"]) for b in c["bins"] if b["n"])
    if over > 0:
        return "surer", "Read its 90 % as something less, and check what it is unsure of by eye."
    return "less sure", "Its answers are right more often than it says: a cautious fault."


def unfamiliar(about: dict[str, Any]) -> str | None:
    """Whether it notices photos of something that it has never seen; None where that was not tried."""
    u = about.get("unfamiliar")
    if not u:
        return None
    told = []
    if (test := u.get("test")) and test["n"] and not is_evaluation(about):  # they are of the run's own photos
        flagged = f"{test['flagged']:,}" if test["flagged"] else "none"
        told.append(f"Of {counted(test['n'], 'test photo')}, like those it learnt from, it called {flagged} unfamiliar.")
    left_out = [row for row in u.get("left_out") or () if row.get("flagged") is not None]
    if n := sum(row["n"] for row in left_out):
        share = sum(row["n"] * row["flagged"] for row in left_out) / n
        told.append(f"Of classes that were kept from it for a trial it noticed {percent(share)} of {counted(n, 'photo')}.")
    if probes := [probe for probe in u.get("probes") or () if probe.get("unfamiliarity") is not None]:
        n_noticed = sum(probe["unfamiliarity"] > 1 for probe in probes)
        told.append(f"Of {counted(len(probes), 'picture')} of something else altogether it noticed {n_noticed:,}.")
    return " ".join(told) or None


# ---- learning


def overfitting(about: dict[str, Any]) -> str | None:
    """Whether it has learnt its photos by heart; None where the fit was not followed."""
    gap = _gap(about)
    if gap is None:
        return None
    told = (
        f"it is right for {percent(gap.learnt)} of the photos that it learnt from here, and for {percent(gap.new)} of "
        f"{counted(gap.n_new, 'photo')} kept from it"
    )
    if gap.n_new < FEW_OF_CLASS:
        return f"Whether it overfits cannot be said: only {counted(gap.n_new, 'photo')} could be kept from it."
    if gap.at_least <= 0:
        return f"There is no sign of overfitting: {told}{', which may well be chance' if gap.learnt > gap.new else ''}."
    if 1 - gap.new < LITTLE:
        return f"There is next to no overfitting: {told}."
    if gap.is_of_sample:
        more = "With all its photos the gap is usually narrower."
        return f"It knows photos that it learnt from better than new ones: {told}. {more}"
    return (
        f"It knows its own photos better than new ones: {told}. A gap of {points(gap.learnt - gap.new)} "
        f"{'is large' if is_overfitting(about) else 'is usual'}; more, and more varied, photos narrow it."
    )


def is_overfitting(about: dict[str, Any]) -> bool:
    """Whether the photos that it learnt from are known far better than others at the end of the fit, beyond chance."""
    gap = _gap(about)
    return gap is not None and not gap.is_of_sample and gap.at_least > WIDE


class _Gap(NamedTuple):
    """Accuracies at the end of the fit, on photos that it learnt from and on n_new that it did not.

    at_least: the difference, were the new ones as lucky as 1 time in 40. is_of_sample: the fit saw a part of the photos.
    """

    learnt: float
    new: float
    n_new: int
    at_least: float
    is_of_sample: bool


def _gap(about: dict[str, Any]) -> _Gap | None:
    """None where the fit was not followed."""
    f = about.get("fitting") or {}
    steps = [s for s in f.get("steps") or () if s.get("validation_accuracy") is not None]
    if not steps or not f.get("n_validation"):
        return None
    learnt, new, n_new = steps[-1]["train_accuracy"], steps[-1]["validation_accuracy"], f["n_validation"]
    images = about.get("images") or {}
    n_learnt = images.get("train", 0) + images.get("validation", 0)
    _, high = share_interval(new * n_new, n_new, f.get("n_effective") or n_new)
    return _Gap(learnt, new, n_new, learnt - high, f.get("n_train", n_learnt) + n_new < n_learnt)


def more_photos(about: dict[str, Any]) -> str | None:
    """Whether more photos would help; None where there is no learning curve."""
    curve = about.get("learning_curve")
    return str(curve["sentence"]) if curve and curve.get("sentence") else None


def ladder(about: dict[str, Any]) -> str | None:
    """What trying more than the simplest way brought."""
    rungs = [r for r in about.get("ladder") or () if r["accuracy"] is not None]
    if len(rungs) < 2:
        return None
    taken = [r for r in rungs if r["is_taken"]]
    n_tried = f"{len(rungs) - 1:,} more {'was' if len(rungs) == 2 else 'were'} tried"
    n_taken = f"{len(taken) - 1:,} of them {'was' if len(taken) == 2 else 'were'} kept"
    first, last = rungs[0]["accuracy"], (taken[-1] if taken else rungs[0])["accuracy"]
    n_learnt = about["images"]["used"] - (about["images"].get("test") or 0)
    n = rungs[0].get("n_images") or n_learnt
    among = f" on a sample of {n:,} of the {n_learnt:,} photos to learn from" if n < n_learnt else ""
    what = "balanced accuracy " if rungs[0].get("is_balanced") else ""
    if len(taken) < 2:
        return f"After the simplest way, {n_tried} by cross-validation{among}, and none was better: {what}{percent(first)}."
    rise = f"{percent(first)} as before, with probabilities that fit better" if first == last else ""
    return (
        f"After the simplest way, {n_tried} by cross-validation{among} and {n_taken}: {what}"
        f"{rise or f'from {percent(first)} to {percent(last)}'}. These numbers chose, so they flatter a little"
        f"{'; the result at the top did not choose' if is_tested(about) else ''}."
    )


def fine_tuning(about: dict[str, Any]) -> str | None:
    """What letting the backbone learn too came to."""
    tuning = about.get("fine_tuning")
    if not tuning:
        return None
    taken = "and was kept" if tuning["is_taken"] else "and was not kept"
    words = (tuning.get("comparison") or {}).get("sentence") or ""
    return f"Letting the network itself learn too took {counted(tuning['epochs'], 'epoch')} {taken}. {words}".strip()


# ---- what not to trust


def limits(about: dict[str, Any]) -> tuple[str, ...]:
    """What this classifier should not be trusted with."""
    e, n_classes = about["evaluation"], len(about["classes"])
    only = "It knows no label but these" if are_several(about) else "It always answers with one of its classes"
    found = [
        f"Photos of anything else. {only} ({n_classes:,}), whatever the photo shows; watch the unfamiliarity.",
        "Photos taken otherwise: another camera, light, season or background. It was judged on photos like its own.",
        f"Decisions that may do harm and that nobody checks: {_wrong_in_words(e)}; "
        + ("on more photos, some will be." if e["accuracy"] == 1 else "its probabilities only hint at which."),
    ]
    few = [c["label"] for c in e["classes"] if c["support"] < FEW_OF_CLASS]
    if few:
        found.append(f"Its own numbers for {listed(map(quoted, few))}: fewer than {FEW_OF_CLASS} photos each judged them.")
    if not is_tested(about):
        found.append(
            "The result as a test's: the same photos chose how it learns (cross-validation), which flatters a little."
        )
    return tuple(found)
