"""The verdict page: text, and how a browser shows it."""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.images.frame import Frame
from pipelines.evaluate.measure import Judged
from pipelines.manifest.table import Row
from pipelines.promote.compare import MEASURES, Compared
from pipelines.promote.cost import Cost
from pipelines.promote.decide import Decisions
from pipelines.promote.flips import SHOWN, Flip, Flips
from pipelines.promote.forest import draw_forest
from pipelines.promote.page import Shown, page
from pipelines.promote.verdict import WORSE
from tests.conftest import limits

NASTY = '<img src=x onerror="document.title=1">& "nut" ' + "long" * 30
CATEGORIES = [NASTY, "$a_b$", "metal"]
# Whatever a page needs of a browser, told in its own text; the page itself has no script.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const told = {
    images: images.length, broken: images.filter((one) => !one.naturalWidth).length,
    wide: document.documentElement.scrollWidth - innerWidth, title: document.title,
    verdict: document.getElementById("verdict").getBoundingClientRect().top,
    flips: document.querySelectorAll(".flips .finding").length, elsewhere: performance.getEntriesByType("resource")
      .filter((one) => !one.name.startsWith("data:")).length,
  };
  document.body.innerHTML = "<pre></pre>";
  document.body.firstChild.textContent = JSON.stringify(told);
});</script></body>"""


def compared() -> list[Compared]:
    places = [(None, 0.05), *((name, 0.15) for name in CATEGORIES)]
    return [
        Compared(measure, category, 0.8, 0.9, -0.2, 0.01, margin, 30, False, False, None)
        for category, margin in places
        for measure in MEASURES
    ]


def flip(number: int, label: int, scores: Sequence[float]) -> Flip:
    row = Row(f"{NASTY}/{number}.png", NASTY, "test", label, "<b>chip</b>", [], 127, 0, 80, 60, "0" * 64, "")
    mask = np.zeros((256, 256), bool)
    mask[50:90, 100:140] = bool(label)
    heat = np.random.default_rng(number).random((256, 256)).astype(np.float32)
    judged = [Judged(row, score, heat * score, mask) for score in scores]
    frame = Frame((80, 60), (10, 0, 70, 60), (256, 256))
    return Flip.of(Image.new("RGB", (80, 60), "green"), judged, [limits(1.0), limits(1.0)], [frame, frame])


def flips(count: int) -> Flips:
    found = Flips(("version 3", NASTY))
    for number in range(count):
        found.add(flip(number, number % 2, (0.5, 1.1 + number / 50)))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with SHOWN and seven more flips, and names that mean no good."""
    folder = tmp_path_factory.mktemp("page")
    draw_forest(compared(), folder / "differences.png")
    shown = Shown(
        WORSE,
        f"version 3 is worse: {NASTY}",
        False,
        ("version 3", NASTY),
        [NASTY],
        compared(),
        Decisions(80, 3, 12, 5, 0.035),
        {"version 3": Cost(10, 40, 900, 60), NASTY: Cost(20, 20, 300, 60)},
        [NASTY],
        flips(SHOWN + 7),
    )
    (folder / "index.html").write_text(page(shown, folder / "differences.png"), encoding="utf-8")
    return folder / "index.html"


def test_all_text_is_text_and_nothing_is_fetched(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "<b>chip" not in text
    assert "<script" not in text
    assert {found.partition(":")[0] for found in re.findall(r'(?:src|href)="([^"]+)', text)} == {"data"}
    assert NASTY in unescape(text)


def test_verdict_numbers_and_what_is_left_out_are_there(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert text.index('id="verdict"') < text.index('id="means"') < text.index('id="categories"')
    means = text[text.index('id="means"') : text.index('id="forest"')]
    assert means.count("<tr>") == 1 + len(MEASURES)
    assert "-0.100 <small>[-0.200, +0.010]" in means
    categories = text[text.index('id="categories"') : text.index('id="decisions"')]
    assert categories.count("<tr>") == 1 + len(CATEGORIES)
    assert text.count('<div class="finding ') == SHOWN
    assert "7 more" in text
    costs = text[text.index('id="costs"') :]
    assert "<td>ratio</td><td>0.50</td><td>2.00</td><td>3.00</td>" in costs


def test_the_clearest_flips_come_first_and_say_who_was_right() -> None:
    found = flips(SHOWN + 7)
    assert found.count == SHOWN + 7
    assert [f.distance for f in found.clearest] == sorted((f.distance for f in found.clearest), reverse=True)
    assert found.clearest[0].row.path.endswith(f"/{SHOWN + 6}.png")
    assert flip(0, 1, (2.0, 0.5)).better is True
    assert flip(0, 1, (0.5, 2.0)).better is False
    assert flip(0, 0, (0.5, 2.0)).better is True
    review = [limits(1.0, review=0.4), limits(1.0, review=0.4)]
    judged = [
        Judged(flip(0, 0, (1, 1)).row, s, np.ones((8, 8), np.float32), np.zeros((8, 8), bool)) for s in (0.5, 0.1)
    ]
    frame = Frame((80, 60), (0, 0, 80, 60), (8, 8))
    assert Flip.of(Image.new("RGB", (80, 60)), judged, review, [frame] * 2).better is None  # REVIEW, PASS: both right


@pytest.mark.parametrize("shape", [(600, 2100), (2100, 600), (3, 1000), (256, 256)])
def test_maps_of_large_images_are_kept_small_and_keep_their_peak(shape: tuple[int, int]) -> None:
    heat, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    heat[1, 40], mask[1, 40] = 9, True
    judged = [Judged(flip(0, 1, (1, 1)).row, score, heat, mask) for score in (0.5, 2.0)]
    frame = Frame((shape[1], shape[0]), (0, 0, shape[1], shape[0]), shape)
    image = Image.new("RGB", (shape[1], shape[0]))
    for seen in Flip.of(image, judged, [limits(1.0)] * 2, [frame] * 2).seen:
        assert max(seen.anomaly_map.shape) <= 256
        assert seen.anomaly_map.shape == seen.mask.shape == seen.picture.size[::-1]
        assert (seen.anomaly_map.max(), seen.mask.sum()) == (9, 1)


def test_a_picture_of_many_categories_shows_those_nearest_to_a_margin(tmp_path: Path) -> None:
    many = [replace(compared()[0], category=f"c{n:03}", low=-0.2 + n / 1000, margin=0.15) for n in range(300)]
    draw_forest([compared()[0], *many], tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        assert image.height < 2500
    draw_forest([], tmp_path / "none.png")  # nothing could be compared
    assert (tmp_path / "none.png").stat().st_size > 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1250, 500])
def test_a_browser_shows_it_whole(written: Path, tmp_path: Path, width: int) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(written.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", probed.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = json.loads(unescape(done.stdout.partition("<pre>")[2].partition("</pre>")[0]))
    assert told["images"] == 1 + 3 * SHOWN
    assert (told["broken"], told["elsewhere"]) == (0, 0)
    assert told["flips"] == SHOWN
    assert told["wide"] <= 0  # nothing to scroll to sideways
    assert told["title"] != "1"
    assert told["verdict"] < 600
