"""The report in a real browser: what it shows, what it does when it is used, and that it asks nothing of a network."""

import re

import numpy as np
import pytest

from headstart import wording
from headstart.data.splits import TEST
from headstart.report.page import Explained, report_page
from support.records import CLASSES, HOSTILE, a_picture, about_of, elsewhere, everything_else, issues_of, some_findings

NAMED = [f"class {i}" for i in range(1_000)]


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page from disk; at the end there must have been no error and no request that leaves it."""
    told, asked, contexts = [], [], []

    def opened(content, *, width=1280, height=900, **context):
        path = tmp_path / f"report {len(contexts)}.html"
        path.write_bytes(content.encode("utf-8"))
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **context))
        page = contexts[-1].new_page()
        page.on("console", lambda m: told.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: told.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [t for t in told if "ERR_FILE_NOT_FOUND" not in t] == []  # a photo's file that has gone is no error of the page
    assert asked and {url.split(":", 1)[0] for url in asked} <= {"file", "data", "blob"}


@pytest.fixture(scope="module")
def run():
    """Findings, and the whole report of them: 60 photos, 3 classes, everything measured."""
    f = some_findings(60, right=0.6, is_mapped=True)
    pictures = [a_picture(i) for i in range(60)]
    wrong = np.flatnonzero(f.probabilities.argmax(axis=1) != f.labels)
    f.unfamiliarity[wrong[0]] = 1.27
    heat = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    explained = [Explained(int(row), a_picture(row, 160), heat, (0, 1, 2)) for row in wrong[:6]]
    page = report_page(
        about_of(f, **everything_else(f)),
        f,
        issues=issues_of(f),
        pictures=pictures,
        explained=explained,
        probe_pictures=[a_picture(i, 96) for i in range(3)],
    )
    return f, page


def photos_in(page, selector):
    return sorted(int(n.get_attribute("data-photo")) for n in page.query_selector_all(f"{selector} .thumb"))


def rows_of(f, label, said, *, only_test):
    answers = f.probabilities.argmax(axis=1)
    return np.flatnonzero((f.labels == label) & (answers == said) & ((f.splits == TEST) | (not only_test))).tolist()


def test_it_opens_with_every_section(show, run):
    page = show(run[1])
    there = [s.get_attribute("id") for s in page.query_selector_all("main > section")]
    expected = "result todo classes confusion mistakes calibration unfamiliar issues map learning card".split()
    assert there == expected
    assert len(page.query_selector_all(".toc a")) == len(there)
    assert page.title() == "photos: headstart report"
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert not page.evaluate("document.body.innerText.match(/undefined|NaN|null|\\[object/)")


def test_a_cell_shows_exactly_its_photos(show, run):
    f, content = run
    page = show(content)
    for count, only_test in (("test", True), ("all", False)):
        page.click(f"[data-count={count}]")
        cells = [c.get_attribute("data-cell") for c in page.query_selector_all("#matrix button")]
        assert len(cells) > 3
        for place in cells:
            page.click(f'[data-cell="{place}"]')
            label, said = map(int, place.split(","))
            rows = rows_of(f, label, said, only_test=only_test)
            assert photos_in(page, "#cell") == rows
            assert page.inner_text(f'[data-cell="{place}"]') == str(len(rows))
            of_test = int((f.splits[rows] == TEST).sum())
            headings = [h.inner_text() for h in page.query_selector_all("#cell h4")]
            told = (("Test", of_test), ("Cross-validated", len(rows) - of_test))
            assert headings == [f"{words} photos ({n})" for words, n in told if n]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_cell_opens_by_the_keyboard_and_arrows_go_on(show, run, key):
    page = show(run[1])
    page.click("[data-count=all]")
    first, second = page.query_selector_all("#matrix button")[:2]
    first.focus()
    page.keyboard.press(key)
    assert first.get_attribute("aria-expanded") == "true" and photos_in(page, "#cell")
    page.keyboard.press("ArrowRight")
    assert second.evaluate("b => b === document.activeElement")


def test_a_photo_opens_large_turns_and_closes(show, run):
    page = show(run[1])
    page.click("[data-count=all]")
    page.click('[data-cell="0,0"]')
    page.locator("#cell .thumb").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#cell .thumb')[1]")
    page.keyboard.press("Enter")
    assert page.inner_text("#large-place").startswith("2 of ")
    before = page.inner_text("#large-title")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#large-place").startswith("1 of ") and page.inner_text("#large-title") != before
    page.wait_for_selector("#large-picture canvas")  # the file is not there: the small picture stands for it
    page.keyboard.press("Escape")
    assert page.locator("#large").is_hidden()


def test_the_original_photo_is_shown_where_it_lies(show, tmp_path):
    folder = tmp_path / "my photos #1"
    folder.mkdir()
    names = [str(folder / f"100% {i}?.jpg") for i in range(6)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(a_picture(i, 120))
    f = some_findings(6, names=names)
    for base, photos in ((None, str(folder)), ("my%20photos%20%231", str(folder))):
        page = show(
            report_page(about_of(f) | {"photos": photos}, f, pictures=[a_picture(i) for i in range(6)], photos_base=base)
        )
        page.locator("#matrix button").first.click()
        page.locator("#cell .thumb").first.click()
        page.wait_for_function("document.querySelector('#large-picture img')?.naturalWidth > 0")
        assert page.evaluate("document.querySelector('#large-picture img').naturalWidth") == 120  # small pictures have 64


@pytest.mark.parametrize("base", [None, "photos"])
def test_no_photo_is_opened_that_lies_elsewhere(show, tmp_path, base):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [str(folder / "own.jpg"), *elsewhere(folder)]
    for path in (folder / "own.jpg", tmp_path / "other.jpg"):
        path.write_bytes(a_picture(0, 120))
    f = some_findings(len(names), names=names, right=1, is_mapped=True)
    content = report_page(
        about_of(f) | {"photos": str(folder)}, f, pictures=[a_picture(i) for i in range(len(names))], photos_base=base
    )
    page, asked, opened = show(content), [], []
    page.on("request", lambda r: asked.append(r.url))
    page.click("[data-count=all]")
    for cell in page.locator("#matrix button").all():
        cell.click()
        for thumb in page.locator("#cell .thumb").all():
            thumb.click()
            opened.append(thumb.get_attribute("data-photo"))
            page.wait_for_selector("#large-picture canvas, #large-picture img")
            page.keyboard.press("Escape")
    assert sorted(map(int, opened)) == list(range(len(names)))
    files = {url for url in asked if not url.startswith(("data:", "blob:"))}
    assert files == {(folder / "own.jpg").as_uri()}


def test_columns_sort_both_ways(show, run):
    page = show(run[1])
    button = page.locator("#scores th button", has_text="Recall")
    recalls = "[...document.querySelectorAll('#scores tbody tr')].map(r => parseFloat(r.cells[2].innerText))"
    button.click()
    up = page.evaluate(recalls)
    arrow = "getComputedStyle(document.querySelector('#scores th[aria-sort] button'), '::after').content"
    assert up == sorted(up) and page.locator("#scores th[aria-sort=ascending]").inner_text() == "Recall"
    assert "▲" in page.evaluate(arrow)
    button.click()
    assert page.evaluate(recalls) == sorted(up, reverse=True) and "▼" in page.evaluate(arrow)
    none = "getComputedStyle(document.querySelector('#scores th:not([aria-sort]) button'), '::after').content"
    assert page.evaluate(none) in ("none", "normal")


@pytest.mark.parametrize("share", [0.8125, 0.875, 0.0005, 0.8375, 0.0625, 1 / 3, 0.8944999, 0.99951, 0.0, 1.0])
def test_a_share_is_rounded_as_python_rounds_it(show, share):
    f = some_findings()
    about = about_of(f)
    about["evaluation"]["accuracy"] = share
    about["evaluation"]["classes"][0]["recall"] = share
    page = show(report_page(about, f))
    said = wording.percent(share).replace(" ", "\u00a0")
    assert page.inner_text("#accuracy") == said
    assert page.evaluate("document.querySelector('#scores tbody tr').cells[2].querySelector('.n').textContent") == said


def test_an_evaluation_is_told_as_one(show):
    f = some_findings(test=1)
    more = {"comparison": {"sentence": "It is not decided whether one is better."}, "notes": ["9 of these were learnt from"]}
    about = about_of(f, run="/runs/my <b>run", **more)
    about["images"] |= {"train": 0, "skipped": 9}
    page = show(report_page(about, f))
    assert page.inner_text("#when") == "Evaluated on 22 November 2026"
    assert page.inner_text("#judged-run") == "The classifier of the run my <b>run, judged by the photos of photos."
    assert page.inner_text("#comparison") == more["comparison"]["sentence"]
    assert page.inner_text("#first-notes") == "9 of these were learnt from"
    assert page.locator("#facts dt").all_inner_texts() == ["Photos", "Left out", "Classes"]


def test_a_training_has_no_comparison(show, run):
    page = show(run[1])
    assert page.inner_text("#when") == "Learnt on 22 November 2026"
    assert page.locator("#comparison, #judged-run, #first-notes").count() == 0
    assert "Learnt from" in page.locator("#facts dt").all_inner_texts()


def test_mistakes_and_issues_have_the_names_of_their_files(show, run):
    f, content = run
    page = show(content)
    for media in ("screen", "print"):
        page.emulate_media(media=media)
        told = page.locator("#mistake-cards .file").all_inner_texts()
        assert len(told) == 6 and len(set(told)) == 6
        told += page.locator("[data-kind=leak] .issue .shot figcaption").all_inner_texts()
        assert len(told) == 18 and any("unfamiliar" in words for words in told)
        for words in told:
            row = int(re.fullmatch(r"photo (\d+)\.jpg.*", words)[1])
            strange = round(float(f.unfamiliarity[row]), 2)
            assert words == f"photo {row}.jpg" + (f" unfamiliar ({strange:.2f})" if strange > 1 else "")


def test_evidence_and_the_nearest_are_in_the_large_view_too(show, run):
    page = show(run[1])
    page.locator("#mistake-cards .photo").first.click()
    page.click("#large-why .bar button")
    assert page.locator("#large-picture canvas.heat").is_visible()
    page.click("#large-why .bar button")
    assert page.locator("#large-picture canvas.heat").count() == 0
    page.locator("#large-why .thumb").nth(1).click()
    assert page.inner_text("#large-place") == "2 of 3"


def test_what_is_counted_where_is_named(show, run):
    page = show(run[1])
    assert page.locator("[data-count]").all_inner_texts() == ["Test photos", "Test and cross-validated photos"]
    page.click("[data-count=all]")
    assert page.inner_text("#matrix-note").endswith("the cross-validated ones are marked with a ring.")
    assert "the test and cross-validated photos it was wrong about" in page.inner_text("#mistakes-reading")
    assert "it learnt from 264; 500 others, a fifth, were held out from this fit alone" in page.inner_text("#fitting .how")
    assert "held-out" not in page.inner_text("main")
    assert "AUROC" in page.inner_text("#left-out") and "unfamiliarity is the one to go by" in page.inner_text("#left-out")


def test_rings_are_spoken_of_only_where_something_was_corrected(show):
    f = some_findings()
    about = about_of(f, **everything_else(f))
    assert "Rings: before" in show(report_page(about, f)).inner_text("#reliability figcaption")
    about["calibration"]["bins_before"] = about["calibration"]["bins"]
    page = show(report_page(about, f))
    assert "Rings" not in page.inner_text("#reliability") and page.locator("#reliability .dot-b").count() == 0


def test_the_forecast_says_where_it_is_and_how_sure(show):
    f = some_findings()
    points = [{"n_per_class": n, "accuracy": 0.5 + n / 100, "interval": [0.4, 0.9]} for n in (1, 5, 20)]
    curve = {"points": points, "forecast": {"n_more": 100, "accuracy": 0.7, "interval": [0.75, 0.9]}, "sentence": "More."}
    for width in (1280, 360):
        page = show(report_page(about_of(f, learning_curve=curve | {"n_held_out": 42, "split": "test"}), f), width=width)
        words = page.locator("#curve-chart svg text").all_text_contents()
        assert "120" in words and "forecast (90 %)" in words
        assert "judged on the 42 test photos that judged the result" in page.inner_text("#curve-chart figcaption")


def test_on_a_telephone_a_wide_table_shows_that_it_goes_on(show, run):
    page = show(run[1], width=360)
    assert page.locator("#scores .spare").first.is_hidden()
    shade = "getComputedStyle(document.querySelector('#classes .scroll')).backgroundAttachment"
    assert "local" in page.evaluate(shade) and "scroll" in page.evaluate(shade)
    assert show(run[1]).locator("#scores .spare").first.is_visible()


def test_evidence_can_be_taken_off(show, run):
    page = show(run[1])
    heat = page.locator("canvas.heat").first
    assert heat.is_visible()
    page.click("#heat-switch button")
    assert heat.is_hidden() and page.get_attribute("#heat-switch button", "aria-pressed") == "false"


def test_issues_are_filtered_and_folded(show, run):
    page = show(run[1])
    assert page.locator("#issue-list h3:visible").count() == 4
    page.click("#issue-kinds button:has-text('Leaks')")
    assert page.locator("#issue-list h3:visible").all_inner_texts() == ["Leaks 9"]
    assert page.locator("[data-kind=leak] .issue").count() == 6
    page.click("[data-kind=leak] .more button")
    assert page.locator("[data-kind=leak] .issue").count() == 9


def test_dark_and_light(show, run):
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = show(run[1], color_scheme="dark")
    light = show(run[1], color_scheme="light")
    of_dark, of_light = dark.evaluate(paper), light.evaluate(paper)
    assert of_dark != of_light
    light.click("#theme")
    dark.click("#theme")
    assert (light.evaluate(paper), dark.evaluate(paper)) == (of_dark, of_light)
    assert light.get_attribute("#theme", "aria-pressed") == "true"
    light.emulate_media(media="print")
    assert light.evaluate(paper) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_nothing_is_wider_than_the_screen(show, run, width):
    page = show(run[1], width=width)
    page.locator("#matrix button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """[...document.querySelectorAll('main *')].filter(n => !n.closest('.scroll, .thumb, svg')
                 && n.getBoundingClientRect().right > innerWidth + 1).map(n => n.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []
    heights = "[...document.querySelectorAll('figure > svg text')].map(t => t.getBoundingClientRect().height)"
    assert min(page.evaluate(heights)) > 10


def test_hostile_names_are_shown_as_they_are(show):
    names = [f"/photos/{HOSTILE[i % len(HOSTILE)]}/{i} {HOSTILE[i % len(HOSTILE)]}.jpg" for i in range(70)]
    f = some_findings(70, HOSTILE, names=names, right=0.5)
    about = about_of(f, HOSTILE, notes=["<img src=x onerror=document.title='broken'>"])
    page = show(
        report_page(about, f, issues=issues_of(f, kinds=("<i>odd</i>",)), pictures=[a_picture(i) for i in range(70)])
    )
    for button in page.query_selector_all("#matrix button"):
        button.click()
    page.locator("#cell .thumb").first.click()
    page.wait_for_selector("#large-picture canvas")
    page.keyboard.press("Escape")
    assert page.title() == "photos: headstart report"
    assert (
        page.locator("main i, main b b, main img[src=x]").evaluate_all("n => n.filter(x => !x.closest('.meter')).length")
        == 0
    )
    headings = page.evaluate("[...document.querySelectorAll('#matrix thead th:not(.corner)')].map(t => t.textContent)")
    assert headings == list(HOSTILE)
    assert "<i>odd</i>" in page.inner_text("#issue-kinds")


def test_without_pictures_it_says_so_and_works(show):
    f = some_findings()
    page = show(report_page(about_of(f), f))
    assert "no pictures" in page.inner_text("#no-pictures")
    page.locator("#matrix button").first.click()
    page.locator("#cell .thumb").first.click()
    page.wait_for_selector("#large-picture .note")


def test_several_labels_have_outcomes_for_a_matrix(show):
    f = some_findings(many=True, test=1.0)  # all are judged by the run's own thresholds
    page = show(report_page(about_of(f), f, pictures=[a_picture(i) for i in range(60)]))
    assert page.locator("#matrix-reading").is_hidden()
    given, truth = f.probabilities >= 0.5, f.labels > 0
    wanted = [(given & truth), (~given & truth), (given & ~truth)]
    assert page.locator("#matrix button").count() > 3
    for button in page.query_selector_all("#matrix button"):
        button.click()
        label, outcome = map(int, button.get_attribute("data-cell").split(","))
        assert photos_in(page, "#cell") == np.flatnonzero(wanted[outcome][:, label]).tolist()


def test_the_sentence_counts_the_photos_of_the_matrix(show):
    f = some_findings(200)
    page = show(report_page(about_of(f), f))
    for key, n in (("test", (f.splits == TEST).sum()), ("all", 200)):
        page.click(f"[data-count={key}]")
        cells = {
            tuple(map(int, b.get_attribute("data-cell").split(","))): int(b.inner_text())
            for b in page.query_selector_all("#matrix button")
        }
        assert sum(cells.values()) == n
        told = page.inner_text("#matrix-reading")
        i, j = (CLASSES.index(re.sub("[“”\u2066-\u2069]", "", name)) for name in re.findall("“.*?”", told)[:2])
        assert f"is taken for “\u2068{CLASSES[j]}\u2069” in {cells[i, j]} photo" in told
        assert (f"Of the {n} test and cross-validated photos" in told) == (key == "all")


def test_a_curve_of_one_point_is_none(show):
    f = some_findings()
    curve = {"points": [{"n_per_class": 5, "accuracy": 0.5, "interval": [0.4, 0.9]}], "forecast": None, "sentence": "None."}
    assert show(report_page(about_of(f, learning_curve=curve), f)).locator("#curve-chart svg").count() == 0


def test_cross_validation_alone_has_no_switch(show):
    f = some_findings(test=0)
    page = show(report_page(about_of(f), f))
    assert page.locator("[data-count]").count() == 0 and "cross-validated" in page.inner_text("#matrix-note")


def test_a_thousand_classes_and_many_photos(show):
    f = some_findings(6_000, NAMED, right=0.9)
    content = report_page(about_of(f, NAMED), f)
    assert len(content.encode()) < 5_000_000
    page = show(content)
    assert page.locator("#scores tbody tr").count() == 30 and page.locator("#matrix tbody tr").count() == 30
    page.click("#classes .more button")
    assert page.locator("#scores tbody tr").count() == 1_000
    page.locator("#pairs button").first.click()
    assert photos_in(page, "#cell")
    assert "5,000 of them can be looked at" in page.inner_text("#sampled")


def test_5_000_photos_in_5_mb(show):
    f = some_findings(5_000, is_mapped=True)
    made = [a_picture(i) for i in range(50)]
    about = about_of(f, **everything_else(f))
    content = report_page(about, f, issues=issues_of(f), pictures=[made[i % 50] for i in range(5_000)])
    assert len(content.encode()) < 5_000_000
    page = show(content)
    page.click("[data-count=all]")
    page.click('[data-cell="0,0"]')
    assert page.locator("#cell .thumb").count() <= 120
    page.click("#cell .gallery button:has-text('Show all')")
    assert page.locator("#cell .thumb").count() > 120
