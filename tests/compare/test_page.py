"""The page and the words of a comparison, on made-up findings."""

import json
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpformer.images.frame import Frame
from pipelines.compare.comparison import ALL_IMAGES, CATEGORY, KIND, Estimate, Estimates, Line
from pipelines.compare.costs import MethodCost
from pipelines.compare.disagreement import Disagreement, clearest
from pipelines.compare.findings import Findings, sentences
from pipelines.compare.judgement import Said
from pipelines.compare.page import page
from pipelines.evaluate.measure import Judged
from pipelines.manifest.table import Row
from pipelines.promote.seen import Seen
from tests.conftest import limits

NASTY = '<img src=x onerror="document.title=1">& "nut" ' + "long" * 20
METHODS = ("slow", "fast", "bad")
# What a browser tells of the page, in its own text; the page itself has no script.
PROBE = """<script>addEventListener("load", () => {
  const told = {
    broken: [...document.images].filter((one) => !one.naturalWidth).length,
    wide: document.documentElement.scrollWidth - innerWidth,
    dark: getComputedStyle(document.body).backgroundColor, title: document.title,
  };
  document.body.innerHTML = "<pre></pre>";
  document.body.firstChild.textContent = JSON.stringify(told);
});</script></body>"""


def estimates(masks: bool) -> Estimates:
    """The slow one is best, the fast one as good by all that can be told, the bad one is worse."""
    higher = {
        "slow": Estimate(0.9, 0.8, 0.95, True),
        "fast": Estimate(0.88, 0.78, 0.94, False, -0.02, -0.1, 0.06, 0.6, False),
        "bad": Estimate(0.6, 0.5, 0.7, False, -0.3, -0.4, -0.2, 0.002, True),
    }
    lower = {
        name: replace(one, value=1 - one.value, low=1 - one.high, high=1 - one.low) for name, one in higher.items()
    }
    return {
        "miss_rate": lower,
        "false_alarm_rate": lower,
        "image_auroc": higher,
        **({"pixel_ap": higher, "aupro": higher, "spro": higher} if masks else {}),
    }


def of_kinds(estimates: Estimates) -> Estimates:
    """Without what is the same for every kind of defect."""
    return {name: own for name, own in estimates.items() if name != "false_alarm_rate"}


def seen(score: float) -> Seen:
    row = Row(f"{NASTY}.png", NASTY, "test", 1, "<b>chip</b>", [], 127, 9, 80, 60, "0" * 64, "")
    mask = np.zeros((64, 64), bool)
    mask[10:20, 10:30] = True
    heat = np.linspace(0, score, 64 * 64, dtype=np.float32).reshape(64, 64)
    frame = Frame((80, 60), (10, 0, 70, 60), (64, 64))
    return Seen.of(Image.new("RGB", (80, 60), "green"), Judged(row, score, heat, mask), limits(1.0), frame)


def findings(masks: bool = True) -> Findings:
    row = Row(f"{NASTY}.png", NASTY, "test", 1, "<b>chip</b>", [], 127, 9, 80, 60, "0" * 64, "")
    return Findings(
        "multi-class",
        dict.fromkeys(METHODS, 3),
        0.95,
        {
            ALL_IMAGES: [(Line(ALL_IMAGES, "", ()), estimates(masks))],
            CATEGORY: [(Line(CATEGORY, NASTY, ()), estimates(masks)), (Line(CATEGORY, "bolt", ()), estimates(False))],
            KIND: [(Line(KIND, "<b>chip</b>", ()), of_kinds(estimates(masks)))],
        },
        {"bad": MethodCost(1, 300, 4), "fast": MethodCost(5, 400, 50), "slow": MethodCost(90, 800, 700)},
        [NASTY],
        [Disagreement(row, {"bad": seen(0.5), "fast": seen(1.5), "slow": seen(2.0)})] * 2,
    )


def test_the_words_say_what_is_best_what_is_worse_and_what_to_take() -> None:
    misses, *_, last = sentences(findings())
    assert (
        misses
        == "Misses: slow is best, 0.100; bad is worse by more than chance; fast does not differ by more than chance."
    )
    assert last == "Of slow, fast, which no metric tells from its best, fast is the fastest (5.0 ms an image)."
    tied = findings()
    for own in tied.whole.values():
        own["fast"] = own["slow"]
    assert [one.split(":")[0] for one in sentences(tied)[1:-1]] == [
        "False alarms",
        "Image AUROC",
        "P-AP",
        "AUPRO",
        "sPRO",
    ]
    assert sentences(tied)[2] == "Image AUROC: slow, fast are best, 0.900; bad is worse by more than chance."
    lone = findings()
    for own in lone.whole.values():
        own["fast"] = replace(own["fast"], differs=True)
    assert sentences(lone)[-1] == "slow alone is shown to be worse by no metric (90.0 ms an image)."
    lone.whole["miss_rate"]["slow"] = replace(lone.whole["miss_rate"]["slow"], differs=True)
    assert "No method is abreast" in sentences(lone)[-1]


def test_methods_stand_in_the_order_of_the_first_metric_and_marks_are_where_they_belong() -> None:
    text = page(findings())
    table = text[text.index('id="methods"') : text.index('id="bars"')]
    assert re.findall(r"<tr><td>(\w+)</td>", table) == ["slow", "fast", "bad"]
    assert (table.count('class="best"'), table.count('class="bad"')) == (6, 6)
    assert "0.100 <small>[0.050, 0.200]" in table
    assert "<td>3 × 12 min</td>" in table
    assert text.count("<svg") == 6


def test_what_no_defect_has_a_mask_for_is_left_out_or_a_dash() -> None:
    text = page(findings(masks=False))
    assert "AUPRO" not in text
    text = page(findings())
    by_category = text[text.index('id="category-aupro"') : text.index('id="category-spro"')]
    assert by_category.count("<td>–</td>") == 3  # of bolt
    assert 'id="category-false_alarm_rate"' in text
    assert 'id="kind-false_alarm_rate"' not in text  # it is the same for every kind


def test_all_text_is_text_and_nothing_is_fetched() -> None:
    text = page(findings())
    assert "<img src=x" not in text
    assert "<b>chip" not in text
    assert "<script" not in text
    assert {found.partition(":")[0] for found in re.findall(r'(?:src|href)="([^"]+)', text)} == {"data"}
    assert NASTY in unescape(text)


def said(path: str, decision: str, beyond: float, kind: str = "chip") -> Said:
    return Said(path, "nut", 1, kind, 0.0, decision, beyond)


def test_images_are_shown_of_which_both_sides_are_sure() -> None:
    one = [said("a", "FAIL", 9), said("b", "FAIL", 3), said("c", "FAIL", 5), said("d", "PASS", -4)]
    other = [said("a", "PASS", -0.1), said("b", "REVIEW", -2), said("c", "FAIL", 1), said("d", "PASS", -9)]
    assert clearest([one, other]) == ["b", "a"]
    assert clearest([one, other], most=1) == ["b"]
    assert clearest([one, one]) == []
    # Of another kind the clearest, before the second of the first kind.
    scratched = [[*one, said("e", "FAIL", 0.3, "scratch")], [*other, said("e", "PASS", -0.05, "scratch")]]
    assert clearest(scratched) == ["b", "e", "a"]


@pytest.mark.browser
def test_a_phone_shows_it_in_the_dark(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(findings()).replace("</body>", PROBE), encoding="utf-8")
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--blink-settings=preferredColorScheme=0", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=500,900", "--dump-dom", (tmp_path / "page.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = json.loads(unescape(done.stdout.partition("<pre>")[2].partition("</pre>")[0]))
    assert told["broken"] == 0
    assert told["wide"] <= 0  # nothing to scroll to sideways
    assert told["dark"] == "rgb(22, 24, 27)"
    assert told["title"] == "Which detector"
