"""The page, as a person uses it: real clicks in a browser, on the real service."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving.model_store import DEADLINE
from tests.serving.pictures import as_file, picture

pytestmark = pytest.mark.browser
# What a person can tell of the canvas: how much of it is painted.
PAINTED = """canvas => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, place) => place % 4 === 3).reduce((sum, value) => sum + value, 0);
}"""
DROPPED = """([bytes, name]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  document.getElementById("form").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, service: httpx.Client) -> Iterator[Page]:
    """The page after it asked what is served. Nothing that it does may fail or reach another host."""
    page = browser.new_page(viewport={"width": 1024, "height": 768})
    page.set_default_timeout(1000 * DEADLINE)
    expect.set_options(timeout=1000 * DEADLINE)
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(str(service.base_url))
    expect(page.locator("#health")).to_contain_text("inpformer version")
    yield page
    page.close()
    assert not broken
    assert [url for url in asked if not url.startswith((str(service.base_url), "data:", "blob:"))] == []


@pytest.fixture
def page(browser: Browser, service: httpx.Client) -> Iterator[Page]:
    with opened(browser, service) as page:
        yield page


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(as_file(picture(number)))
    (folder / "scan.tiff").write_bytes(as_file(picture(), "TIFF"))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def judge(page: Page, category: str, *chosen: Path) -> None:
    page.select_option("#category", category)
    page.set_input_files("#file", list(chosen))
    page.get_by_role("button", name="Judge").click()


def decision(page: Page) -> str:
    shown = page.locator("#verdict .decision")
    expect(shown).to_have_count(1)
    return shown.inner_text()


def test_a_picture_its_map_and_where_it_stands(page: Page, files: Path) -> None:
    judge(page, "nut", files / "0.png")
    assert decision(page) == "FAIL"
    expect(page.locator("#verdict")).to_contain_text("0.png, nut: score")
    expect(page.locator("#regions tbody tr").first).to_be_visible()
    assert page.locator("#image").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [90, 60]
    painted = page.locator("#canvas").evaluate(PAINTED)
    page.locator("#opacity").fill("10")
    assert 0 < page.locator("#canvas").evaluate(PAINTED) < painted
    expect(page.locator("#scores p")).to_contain_text("99 good pictures score")
    assert page.locator("#scores svg rect").count() > 10
    expect(page.locator("#example")).to_be_hidden()  # of nuts the version keeps no picture


def test_a_good_part_stands_beside_the_picture(page: Page, files: Path) -> None:
    judge(page, "rivet", files / "0.png")
    assert decision(page) in ("PASS", "REVIEW")
    shown = page.get_by_alt_text("A good part of rivet")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [90, 60]


def test_no_category_is_chosen_for_a_person(page: Page, files: Path) -> None:
    page.set_input_files("#file", [files / "0.png"])
    page.get_by_role("button", name="Judge").click()
    assert page.locator("#category").evaluate("select => [select.value, select.validity.valid]") == ["", False]
    assert page.locator("#verdict").inner_text() == ""


@pytest.mark.parametrize("change", ["file", "category", "error"])
def test_no_verdict_stands_beside_another_picture(page: Page, files: Path, change: str) -> None:
    judge(page, "bolt", files / "0.png")
    assert decision(page) == "PASS"
    expect(page.locator("#regions")).to_be_hidden()
    if change == "file":
        page.set_input_files("#file", [files / "1.png"])
    elif change == "category":
        page.select_option("#category", "nut")
    else:
        judge(page, "bolt", files / "broken.png")
        expect(page.locator("#verdict")).to_contain_text("broken.png")
    expect(page.locator("#verdict .decision")).to_have_count(0)
    expect(page.locator("#shown")).to_be_hidden()


def test_several_are_judged_and_each_can_be_seen_again(page: Page, files: Path) -> None:
    judge(page, "bolt", files / "0.png", files / "broken.png", files / "2.png")
    expect(page.locator("#last button")).to_have_count(2)
    expect(page.locator("#verdict")).to_contain_text("broken.png")
    page.locator("#last button", has_text="0.png").click()
    expect(page.locator("#verdict")).to_contain_text("0.png, bolt")
    expect(page.locator("#last button[aria-pressed=true]")).to_have_text(re.compile("PASS.*0.png", re.DOTALL))
    expect(page.locator("#image")).to_be_visible()


def test_a_picture_that_the_browser_cannot_show_has_a_verdict(page: Page, files: Path) -> None:
    judge(page, "bolt", files / "scan.tiff")
    assert decision(page) == "PASS"
    expect(page.locator("#verdict")).to_contain_text("cannot show")
    expect(page.locator("#view")).to_be_hidden()


def test_a_dropped_picture_is_judged_once_there_is_a_category(page: Page, files: Path) -> None:
    content = [list((files / "1.png").read_bytes()), "dropped.png"]
    page.evaluate(DROPPED, content)
    expect(page.locator("#verdict")).to_contain_text("dropped.png: choose the category")
    page.select_option("#category", "bolt")
    page.get_by_role("button", name="Judge").click()
    assert decision(page) == "PASS"
    page.evaluate(DROPPED, [content[0], "second.png"])
    expect(page.locator("#verdict")).to_contain_text("second.png, bolt")


@pytest.mark.parametrize(("width", "colours"), [(400, "dark"), (768, "light")])
def test_it_fits_a_tablet_and_a_phone_and_speaks_to_the_keyboard(
    page: Page, files: Path, width: int, colours: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if colours == "dark" else "light")
    judge(page, "nut", files / "0.png")
    assert decision(page) == "FAIL"
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    back, text = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    assert (back == "rgb(255, 255, 255)") == (colours == "light")
    assert back != text
    for place in ("#file", "#category", "button", "#opacity"):
        page.keyboard.press("Tab") if place != "#file" else page.locator(place).focus()
        assert page.evaluate(f"document.activeElement.matches({place!r})")


def test_the_services_last_decisions_by_line_category_and_decision(
    page: Page, files: Path, service: httpx.Client
) -> None:
    content = (files / "0.png").read_bytes()
    for ask in ("nut&line=left&part=0815", "bolt&line=left", "bolt&line=right"):
        service.post(f"/v1/predict?category={ask}", content=content).raise_for_status()
    look, rows = page.get_by_role("button", name="Look"), page.locator("#recent tbody tr")
    look.click()
    expect(rows.nth(2)).to_contain_text(re.compile("FAIL.*nut.*left.*0815"))
    page.locator("#filter [name=line]").select_option("left")
    expect(rows).to_have_count(2)
    page.locator("#filter [name=decision]").select_option("PASS")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("bolt")
    page.locator("#filter [name=category]").select_option("nut")
    expect(page.locator("#recentsaid")).to_have_text("None.")
    expect(page.locator("#recent")).to_be_hidden()


def test_a_key_is_asked_for_once_it_is_needed(
    browser: Browser, guarded: httpx.Client, ring: dict[str, str], files: Path
) -> None:
    with opened(browser, guarded) as page:
        expect(page.locator("#recentsaid")).to_contain_text("key")
        expect(page.locator("#key")).to_be_visible()
        page.locator("#key").fill(ring["press"])
        judge(page, "bolt", files / "0.png")
        assert decision(page) == "PASS"
        expect(page.locator("#recent tbody tr").first).to_contain_text("press-2")


def test_without_keys_none_is_asked_for(page: Page) -> None:
    expect(page.locator("#recentsaid")).not_to_be_empty()
    expect(page.locator("#key")).to_be_hidden()
