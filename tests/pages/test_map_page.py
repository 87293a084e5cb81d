"""The map's page in a real browser: it draws, shows, searches, lassoes and opens, by pointer and by keys, with any names."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.report.colours import page_colours
from headstart.report.maps.page import MapContents, NewPhotos, map_page
from headstart.safety.csv_cells import from_cell, to_cell
from support.maps import HOSTILE_NAMES as HOSTILE
from support.maps import findings_of
from support.maps import jpeg_of_colour as jpeg
from support.records import elsewhere

N = 60
CLASSES = ["daisy", "roses", "tulips"]
GET_CONTEXT = """const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return kind === "webgl" ? %s : get.call(this, kind, options);
};"""
# The page takes WebGL only where a graphics card draws it; a machine for tests has none, and must not say so.
HUSH = "\nWebGLRenderingContext.prototype.getExtension = () => null;"
RENDERERS = {"webgl": GET_CONTEXT % "get.call(this, kind)" + HUSH, "canvas": GET_CONTEXT % "null"}


def grid_of_photos(folder):
    """Photos on a grid of 10 columns, y upwards; every third one's prediction is the next class, the first ten unknown."""
    names = [str(folder / f"photo {i}.png") for i in range(N)]
    labels = np.arange(N) % 3
    predictions = (labels + (np.arange(N) % 7 == 0)) % 3
    probabilities = np.full((N, 3), 0.1, np.float32)
    probabilities[np.arange(N), predictions] = 0.8
    positions = np.stack([np.arange(N) % 10, -(np.arange(N) // 10)], axis=1).astype(np.float32)
    return findings_of(names, labels, positions=positions, probabilities=probabilities[10:], held_out=np.arange(10, N))


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    for i in range(12):  # the other originals are gone
        Image.new("RGB", (300, 200), (200, 20 * i, 0)).save(folder / f"photo {i}.png")
    findings = grid_of_photos(folder)
    issues = [
        {"kind": "label_error", "path": findings.names[14]},
        {"kind": "near_duplicate", "paths": list(findings.names[2:4])},
    ]
    pictures = [jpeg((3 * i, 255 - 4 * i, 90)) for i in range(N)]
    file = folder / "map.html"
    file.write_text(
        map_page(MapContents({"classes": CLASSES, "photos": str(folder)}, findings, pictures=pictures, issues=issues))
    )
    return file


def opened(browser, file, *, before=None, **options):
    """A page that is drawn; whatever it says, and whatever it asks of anybody, fails the test at its end."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 700}, **options})
    page, said = context.new_page(), []
    if before:
        page.add_init_script(before)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or said.append(f"asked for {r.url}"))
    page.goto(file.as_uri())
    page.wait_for_function("window.map && map.renderer")
    return page, said


def test_no_photo_is_opened_that_lies_elsewhere(browser, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [str(folder / "own.png"), *(name for name in elsewhere(folder) if name.startswith(("/", "\\", "C:")))]
    for path in (folder / "own.png", tmp_path / "other.jpg"):
        Image.new("RGB", (300, 200), (200, 20, 0)).save(path)
    n = len(names)
    positions = np.stack([np.arange(n), np.arange(n) % 3], axis=1).astype(np.float32)
    findings = findings_of(names, np.arange(n) % 3, positions=positions)
    file = tmp_path / "map.html"
    file.write_text(map_page(MapContents({"classes": CLASSES, "photos": str(folder)}, findings)))
    page, said = opened(browser, file)
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    for i in range(n):
        x, y = page.evaluate(f"map.positionOf({i})")
        page.mouse.click(x, y)
        assert page.locator(".hs-map-large .hs-map-name").text_content() == names[i]
        page.keyboard.press("Escape")
    page.context.close()
    assert [url for url in asked if not url.startswith("data:")] == [(folder / "own.png").as_uri()]
    assert complaints(said) == []


@pytest.fixture
def page(browser, page_file):
    page, said = opened(browser, page_file)
    yield page
    page.context.close()
    assert complaints(said) == []


def counts(page):
    """The legend: what stands there, and how often."""
    return {
        item.locator(".hs-map-entry").inner_text(): int(item.locator(".hs-map-count").inner_text().replace(",", ""))
        for item in page.locator(".hs-map-legend li").all()
    }


def hover(page, i):
    x, y = page.evaluate(f"map.positionOf({i})")
    page.mouse.move(x, y)
    return x, y


def lasso(page, columns, rows):
    """Shift and drag around the photos of these columns and rows."""
    first = page.evaluate(f"map.positionOf({rows[0] * 10 + columns[0]})")
    last = page.evaluate(f"map.positionOf({rows[-1] * 10 + columns[-1]})")
    (left, top), (right, bottom) = [c - 15 for c in first], [c + 15 for c in last]
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")


def colours_at(page, i):
    """The colour of the middle of a photo's point."""
    page.mouse.move(1, 1)
    page.wait_for_timeout(120)
    return pixel(page, *page.evaluate(f"map.positionOf({i})"))


def pixel(page, x, y):
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB").getpixel((round(x), round(y)))


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def complaints(said):
    """What is in the console but for photos that are gone, and the software WebGL's note that screenshots are slow."""
    return [line for line in said if "ERR_FILE_NOT_FOUND" not in line and "GPU stall due to ReadPixels" not in line]


def test_the_pointer_is_shown_the_photo_it_is_on(page):
    assert page.locator(".hs-map-tip").is_hidden()
    for i in (0, 14, N - 1):
        hover(page, i)
        assert page.locator(".hs-map-tip .hs-map-name").inner_text() == f"photo {i}.png"
    hover(page, 14)
    facts = page.locator(".hs-map-tip").inner_text()
    assert "label: tulips" in facts and "prediction: daisy (80 %), wrong" in facts and "split: test" in facts
    assert "issue: label error" in facts
    hover(page, 3)
    assert "prediction" not in page.locator(".hs-map-tip").inner_text()  # it was not held out
    page.mouse.move(1, 1)
    assert page.locator(".hs-map-tip").is_hidden()


def test_the_pointer_is_shown_the_picture(page):
    hover(page, 20)
    page.wait_for_timeout(300)
    red, green, blue = pixel(page, *middle(page.locator(".hs-map-tip canvas")))
    assert abs(blue - 60) < 12 and abs(green - 175) < 12 and abs(red - 90) < 12  # jpeg() is told blue, green, red


@pytest.mark.parametrize("renderer", RENDERERS)
def test_points_have_the_colour_of_the_legend(renderer, browser, page_file):
    page, said = opened(browser, page_file, before=RENDERERS[renderer])
    if renderer == "webgl" and page.evaluate("!document.createElement('canvas').getContext('webgl')"):
        pytest.skip("this browser has no WebGL")
    assert page.evaluate("map.renderer") == renderer
    for i, expected in ((0, (0, 114, 178)), (1, (230, 159, 0)), (2, (0, 158, 115))):
        np.testing.assert_allclose(colours_at(page, i), [0.88 * c + 0.12 * 255 for c in expected], atol=8)
    page.locator("select").select_option("correctness")
    np.testing.assert_allclose(colours_at(page, 14), [0.88 * c + 0.12 * 255 for c in (213, 94, 0)], atol=8)
    page.locator(".hs-map-legend button", has_text="wrong").click()
    np.testing.assert_allclose(colours_at(page, 14), (255, 255, 255), atol=2)
    page.context.close()
    assert complaints(said) == []


def test_without_a_graphics_card_it_is_drawn_by_canvas(page):
    name = """() => {
        const gl = document.createElement("canvas").getContext("webgl");
        const told = gl && gl.getExtension("WEBGL_debug_renderer_info");
        return gl && told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "none"; }"""
    if not re.search("swiftshader|llvmpipe|none", page.evaluate(name), re.I):
        pytest.skip("this machine has a graphics card")
    assert page.evaluate("map.renderer") == "canvas"


def test_colours_can_mean_other_things_and_the_legend_counts(page):
    assert counts(page) == {"daisy": 20, "roses": 20, "tulips": 20}
    expected = {
        "prediction": {"no prediction": 10},
        "split": {"train": 20, "validation": 20, "test": 20},
        "correctness": {"right": 43, "wrong": 7, "not judged": 10},
        "issue": {"label error": 1, "near duplicate": 2, "none": 57},
    }
    for mode, entries in expected.items():
        page.locator("select").select_option(mode)
        assert entries.items() <= counts(page).items() and sum(counts(page).values()) == N


def test_an_entry_of_the_legend_hides_its_photos(page):
    page.locator(".hs-map-legend button", has_text="daisy").click()
    hover(page, 15)
    assert page.locator(".hs-map-tip").is_hidden()
    page.locator(".hs-map-legend-head button", has_text="None").click()
    assert page.locator(".hs-map-legend button[aria-pressed=true]").count() == 0
    page.locator(".hs-map-legend-head button", has_text="All").click()
    hover(page, 15)
    assert page.locator(".hs-map-tip").is_visible()


def test_a_search_counts_and_dims(page):
    search = page.locator(".hs-map-search")
    before = colours_at(page, 3)
    for words, text in (
        ("photo 1", "11 photos found"),
        ("TULIPS", "tulips"),
        ("photo 59.png", "1 photo found"),
        ("x/y", "No photo"),
    ):
        search.fill(words)
        wanted = (
            f"{sum(i % 3 == 2 or (i >= 10 and i % 7 == 0 and i % 3 == 1) for i in range(N))} photos"
            if text == "tulips"
            else text
        )
        assert page.locator(".hs-map-found").inner_text().startswith(wanted)
    assert sum(colours_at(page, 3)) > sum(before) + 100
    search.fill("photo 59.png")
    search.press("Enter")
    x, y = page.evaluate("map.positionOf(59)")
    box = page.locator(".hs-map-stage").bounding_box()
    assert abs(x - box["x"] - box["width"] / 2) < 3 and abs(y - box["y"] - box["height"] / 2) < 3
    search.fill("")
    assert page.locator(".hs-map-found").inner_text() == ""


def test_a_lasso_lists_exactly_what_is_inside(page, page_file):
    lasso(page, columns=(2, 4), rows=(1, 2))
    inside = [row * 10 + column for row in (1, 2) for column in (2, 3, 4)]
    assert page.locator(".hs-map-chosen strong").inner_text() == "6 photos inside"
    assert page.locator(".hs-map-chosen ol .hs-map-entry").all_inner_texts() == [f"photo {i}.png" for i in inside]
    with page.expect_download() as download:
        page.locator(".hs-map-chosen button", has_text="CSV").click()
    rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_bytes().decode())))
    assert rows[0] == ["path", "label", "prediction"]
    wrong = [[str(page_file.parent / f"photo {i}.png"), CLASSES[i % 3], CLASSES[(i + (i % 7 == 0)) % 3]] for i in inside]
    assert rows[1:] == wrong
    page.locator(".hs-map-chosen button", has_text="Clear").click()
    assert page.locator(".hs-map-chosen").is_hidden()


def test_the_table_of_a_lasso_holds_no_formula(browser, tmp_path):
    names, classes = ["=1+1", "-x", "'@y", "a;=1", "\uff1d2", "a b"], ["+plus", "=sum", "-"]
    positions = np.stack([np.arange(6), np.arange(6) % 2], axis=1).astype(np.float32)
    findings = findings_of(names, np.arange(6) % 3, positions=positions)
    (tmp_path / "map.html").write_text(map_page(MapContents({"classes": classes, "photos": ""}, findings)), "utf-8")
    page, said = opened(browser, tmp_path / "map.html")
    page.evaluate("map.select([0, 1, 2, 3, 4, 5])")
    with page.expect_download() as download:
        page.locator(".hs-map-chosen button", has_text="CSV").click()
    _, *rows = csv.reader(io.StringIO(Path(download.value.path()).read_bytes().decode(), newline=""))
    assert [[from_cell(cell) for cell in row[:2]] for row in rows] == [[n, classes[i % 3]] for i, n in enumerate(names)]
    assert [to_cell(from_cell(cell)) for row in rows for cell in row] == [cell for row in rows for cell in row]
    page.context.close()
    assert complaints(said) == []


def test_a_lasso_leaves_out_what_is_hidden_and_copies_paths(page, page_file):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".hs-map-legend button", has_text="daisy").click()
    page.get_by_role("button", name="Lasso").click()
    lasso(page, columns=(0, 5), rows=(0, 0))
    page.locator(".hs-map-chosen button", has_text="Copy paths").click()
    page.locator(".hs-map-chosen button", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == [
        str(page_file.parent / f"photo {i}.png") for i in (1, 2, 4, 5)
    ]


def test_a_click_opens_the_photo_itself_or_its_small_picture(page):
    hover(page, 11)
    page.mouse.click(*page.evaluate("map.positionOf(11)"))
    page.locator(".hs-map-large img").wait_for()
    assert page.evaluate("document.querySelector('.hs-map-large img').naturalWidth") == 300
    assert page.locator(".hs-map-large .hs-map-name").inner_text().endswith("/photo 11.png")
    page.keyboard.press("Escape")
    assert page.locator(".hs-map-large").is_hidden()
    page.mouse.click(*page.evaluate("map.positionOf(40)"))  # its file is gone
    assert page.locator(".hs-map-large canvas").is_visible() and page.locator(".hs-map-large img").count() == 0
    page.get_by_role("button", name="Close").click()
    assert page.locator(".hs-map-large").is_hidden()


def test_keys_walk_open_close_and_zoom(page):
    name = page.locator(".hs-map-tip .hs-map-name")
    stage = page.locator(".hs-map-stage")
    hover(page, 22)
    stage.focus()
    for key, i in (("ArrowRight", 23), ("ArrowDown", 33), ("ArrowLeft", 32), ("ArrowUp", 22)):
        page.keyboard.press(key)
        assert name.inner_text() == f"photo {i}.png"
        assert f"photo {i}.png" in page.locator("[aria-live=polite]").inner_text()
    page.keyboard.press("Enter")
    assert page.locator(".hs-map-large .hs-map-name").inner_text().endswith("photo 22.png")
    assert page.evaluate("document.activeElement.textContent") == "Close"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Close"
    page.keyboard.press("ArrowRight")
    assert page.locator(".hs-map-large .hs-map-name").inner_text().endswith("photo 23.png")
    page.keyboard.press("Escape")
    assert page.locator(".hs-map-large").is_hidden() and stage.evaluate("e => e === document.activeElement")
    apart = "map.positionOf(9)[0] - map.positionOf(0)[0]"
    before = page.evaluate(apart)
    page.keyboard.press("+")
    assert page.evaluate(apart) > 1.3 * before
    page.keyboard.press("0")
    assert page.evaluate(apart) == pytest.approx(before)


def test_the_wheel_zooms_where_the_pointer_is_and_dragging_moves(page):
    x, y = hover(page, 33)
    before = page.evaluate("map.positionOf(34)")
    page.mouse.wheel(0, -600)
    page.wait_for_function(f"map.positionOf(34)[0] > {before[0] + 20}")
    np.testing.assert_allclose(page.evaluate("map.positionOf(33)"), (x, y), atol=3)
    page.mouse.down()
    page.mouse.move(x + 50, y - 30, steps=5)
    page.mouse.up()
    np.testing.assert_allclose(page.evaluate("map.positionOf(33)"), (x + 50, y - 30), atol=6)
    assert page.locator(".hs-map-large").is_hidden()  # a drag is no click
    page.get_by_role("button", name="Reset view").click()
    np.testing.assert_allclose(page.evaluate("map.positionOf(34)"), before, atol=0.01)


def test_far_in_points_become_pictures(page):
    x, y = hover(page, 33)
    for _ in range(4):
        page.mouse.wheel(0, -300)
    page.mouse.move(1, 1)
    page.wait_for_timeout(300)
    np.testing.assert_allclose(pixel(page, x + 22, y + 14), (90, 255 - 4 * 33, 3 * 33), atol=14)


def test_two_fingers_pinch(browser, page_file):
    page, said = opened(browser, page_file, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    box = page.locator(".hs-map-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    apart = "map.positionOf(9)[0] - map.positionOf(0)[0]"
    before, client = page.evaluate(apart), page.context.new_cdp_session(page)

    def touch(kind, reach):
        points = [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}] if reach else []
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 40)
    for reach in (50, 60, 70, 80):
        touch("touchMove", reach)
    touch("touchEnd", 0)
    assert page.evaluate(apart) == pytest.approx(2 * before, rel=0.3)
    page.get_by_role("button", name="Reset view").tap()
    page.touchscreen.tap(*page.evaluate("map.positionOf(11)"))
    assert page.locator(".hs-map-large .hs-map-name").inner_text().endswith("photo 11.png")
    page.context.close()
    assert complaints(said) == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_hostile_names_are_only_ever_text(renderer, browser, tmp_path):
    names = [*HOSTILE, "<img src=x onerror=alert(1)>", "javascript:alert(1)", "//example.com/a.jpg", "{{title}}"]
    findings = findings_of(
        names, np.arange(len(names)), positions=np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    )
    file = tmp_path / "map.html"
    new = NewPhotos(("new <b>.jpg",), np.array([[0.0, 9.0]]), np.array([0]), np.array([0.5]), np.array([2.0]), (None,))
    text = map_page(
        MapContents({"classes": names, "photos": names[6]}, findings, pictures=[None] * len(names), new=new, originals="")
    )
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    page, said = opened(browser, file, before=RENDERERS[renderer])
    assert set(page.locator(".hs-map-legend .hs-map-entry").all_text_contents()) >= {*names, "unfamiliar new photos"}
    hover(page, len(names))
    assert "unfamiliar (2.0): like nothing it was shown" in page.locator(".hs-map-tip").inner_text()
    assert names[6] in page.locator("h1").text_content()
    for i in range(len(names)):
        page.evaluate(f"map.select([{i}])")
        page.locator(".hs-map-chosen ol button").click()
        assert page.locator(".hs-map-large .hs-map-name").text_content() == names[i]
        page.keyboard.press("Escape")
    assert page.locator("img, b, main script").count() == 0
    page.context.close()
    assert complaints(said) == []


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_anything_is_drawn_without_a_word(n, browser, tmp_path):
    positions = np.zeros((n, 2), np.float32)
    findings = findings_of([f"{i}.jpg" for i in range(n)], np.zeros(n, np.int64), positions=positions)
    file = tmp_path / "map.html"
    file.write_text(map_page(MapContents({"classes": ["x"]}, findings, pictures=[None] * n)))
    page, said = opened(browser, file)
    assert counts(page) == {"x": n}
    lasso_anywhere = page.locator(".hs-map-stage").bounding_box()
    page.mouse.move(lasso_anywhere["x"] + lasso_anywhere["width"] / 2, lasso_anywhere["y"] + lasso_anywhere["height"] / 2)
    assert page.locator(".hs-map-tip").is_visible() == bool(n)
    page.context.close()
    assert complaints(said) == []


def test_a_thousand_classes_have_a_legend_with_a_filter(browser, tmp_path):
    classes = [f"class {i}" for i in range(1_000)]
    findings = findings_of([f"{i}.jpg" for i in range(1_000)], np.arange(1_000))
    file = tmp_path / "map.html"
    file.write_text(map_page(MapContents({"classes": classes}, findings, pictures=[None] * 1_000)))
    page, said = opened(browser, file)
    page.locator(".hs-map-filter").fill("class 99")
    assert page.locator(".hs-map-legend li:visible").count() == 11
    page.locator(".hs-map-legend-head button", has_text="None").click()
    assert page.locator(".hs-map-legend button[aria-pressed=false]").count() == 11  # only those that the filter shows
    page.context.close()
    assert complaints(said) == []


def test_it_can_be_part_of_another_page(browser, tmp_path):
    """One global, plain lists, no sprites, the wheel left to the page until the map was clicked; and it goes away again."""
    web = Path(map_page.__globals__["__file__"]).parents[1] / "web"
    data = {
        "x": [0, 1, None],
        "y": [0, 1, 2],
        "names": ["a.jpg", "b.jpg", "c.jpg"],
        "classes": ["x", "y"],
        "label": [0, [0, 1], None],
        "colours": page_colours(),
    }
    file = tmp_path / "page.html"
    file.write_text(
        f"<!doctype html><style>{(web / 'map.css').read_text()} :root {{ --card: rgb(1, 2, 3) }}"
        f"button[aria-pressed='true'] {{ background: red; border-radius: 99px }}</style>"
        f"<div style='height: 500px'><div id=m></div></div><p style='height: 3000px'></p>"
        f"<script>{(web / 'map.js').read_text()}\n window.map = headstartMap(document.getElementById('m'), "
        f"{{...{json.dumps(data)}, wheel: 'focus'}});</script>"
    )
    page, said = opened(browser, file)
    assert counts(page) == {"x": 2, "y": 0}
    assert page.locator("#m").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(1, 2, 3)"
    entry = page.locator(".hs-map-legend button").first
    assert (
        entry.evaluate("e => getComputedStyle(e).backgroundColor") == "rgba(0, 0, 0, 0)"
    )  # not what the page says of buttons
    assert page.get_by_role("button", name="Photos").is_hidden()
    box = page.locator(".hs-map-stage").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, 200)
    page.wait_for_function("scrollY > 199")
    page.evaluate("scrollTo(0, 0)")
    hover(page, 1)
    assert "label: x | y" in page.locator(".hs-map-tip").inner_text()
    page.evaluate("map.destroy()")
    assert page.locator("#m > *").count() == 0
    page.context.close()
    assert complaints(said) == []


def test_the_script_has_one_global_and_never_writes_html():
    script = (Path(map_page.__globals__["__file__"]).parents[1] / "web" / "map.js").read_text()
    assert re.findall(r"^(?:const|let|var|function|class) (\w+)", script, re.M) == ["headstartMap"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", script)
