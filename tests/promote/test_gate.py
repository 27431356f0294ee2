"""The whole gate: versions in a real registry on SQLite, judged, compared, written and logged."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.seen import SeenImages
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Manifest
from pipelines.platform.registry import Version, find_version, set_version_tags
from pipelines.platform.tracking import tracking_uri
from pipelines.promote.compare import MEASURES
from pipelines.promote.cost import peak_memory
from pipelines.promote.gate import weigh
from pipelines.promote.images import SharedImages, images_of
from pipelines.promote.rescore import Pair, unseen
from pipelines.promote.settings import Margins, PromoteSettings
from pipelines.promote.verdict import BETTER, TOO_FEW, WORSE, Verdict
from pipelines.promote.weighing import scope_of
from tests.promote.products import NAME, TEST, guessing, looking, products, registered

WIDE = Margins(0.4, 0.4, 0.4, 0.45, 0.45)
SETTINGS = PromoteSettings(margins=WIDE, category_margin=0.7, replicates=1000)
PARAMS = {"train": {"nearest": {"grid": 4, "channels": 32}}}


@dataclass(frozen=True)
class Made:
    """A registry in the working directory, and what is in it."""

    manifest: Manifest
    folder: Path
    guess: Version
    look: Version

    def weigh(self, challenger: Version, champion: Version | None, settings: PromoteSettings = SETTINGS) -> Verdict:
        """Into the folder `verdict`, which is empty before."""
        shutil.rmtree(self.folder / "verdict", ignore_errors=True)
        (self.folder / "verdict").mkdir()
        return weigh(NAME, challenger, champion, settings, self.folder / "verdict")


@pytest.fixture(scope="module")
def made(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text(json.dumps(PARAMS))  # JSON is YAML
        manifest = products(Path("data"))
        guess = registered(guessing(encoder, manifest, 1), manifest, folder, "guess")
        look = registered(looking(encoder, manifest, folder / "store"), manifest, folder, "look")
        yield Made(manifest, folder, guess, look)


@pytest.fixture(scope="module")
def better(made: Made) -> Verdict:
    """The one that has a memory against the one that guesses; its page stays in `page`."""
    verdict = made.weigh(made.look, made.guess)
    shutil.copytree(made.folder / "verdict", made.folder / "page")
    return verdict


def of(verdict: Verdict, measure: str, category: str | None = None) -> dict[str, Any]:
    (found,) = (c for c in verdict.details["compared"] if (c["measure"], c["category"]) == (measure, category))
    return found


def artefacts(version: Version) -> set[str]:
    client = MlflowClient(tracking_uri())
    return {file.path for file in client.list_artifacts(version.run_id, "promotion")}


def test_a_better_one_is_promoted(made: Made, better: Verdict) -> None:
    assert (better.outcome, better.allows, better.challenger, better.champion) == (BETTER, True, "2", "1")
    recall = of(better, "recall")
    assert recall["difference"] > 0.3
    assert recall["surely_better"]
    assert 0 < recall["low"] < recall["difference"] < recall["high"]
    assert of(better, "recall", "metal")["parts"] == TEST
    assert recall["parts"] == 2 * TEST
    assert {c["measure"] for c in better.details["compared"]} == {*MEASURES}
    assert all(c["held"] for c in better.details["compared"])


def test_the_numbers_are_those_of_the_decisions(better: Verdict) -> None:
    found = better.details["decisions"]
    assert sum(found[name] for name in ("both", "challenger_alone", "other_alone", "neither")) == 4 * TEST
    won = TEST * 2 * (of(better, "recall")["difference"] + of(better, "specificity")["difference"])
    assert found["challenger_alone"] - found["other_alone"] == pytest.approx(won)
    differing = [f for f in better.details["flips"] if f["challenger"]["decision"] != f["other"]["decision"]]
    assert len(differing) == len(better.details["flips"]) >= found["challenger_alone"] + found["other_alone"]


def test_it_is_logged_with_the_version(made: Made, better: Verdict) -> None:
    content = (made.folder / "page" / "verdict.json").read_bytes()
    assert better.digest == hashlib.sha256(content).hexdigest()
    assert {**json.loads(content), "digest": better.digest, "page": better.page} == better.as_json()
    tags = find_version(NAME, "2").tags
    assert (tags["verdict.outcome"], tags["verdict.against"], tags["verdict.digest"]) == ("better", "1", better.digest)
    run, _, path = better.page.removeprefix("runs:/").partition("/")
    assert run == made.look.run_id
    kept = mlflow.artifacts.download_artifacts(run_id=run, artifact_path=path.rpartition("/")[0])
    assert {file.name for file in Path(kept).iterdir()} == {"verdict.json", "index.html", "differences.png"}
    assert (Path(kept) / "verdict.json").read_bytes() == content


def test_costs_are_those_of_both_on_this_machine(better: Verdict) -> None:
    assert set(better.details["costs"]) == {"version 1", "version 2"}
    for cost in better.details["costs"].values():
        assert 0 < cost["p50_ms"] <= cost["p99_ms"]
        assert cost["memory_mb"] > 100  # torch alone takes that
        assert cost["images"] == 4 * TEST


def test_the_way_back_is_worse_and_a_broken_budget_is_said(made: Made, better: Verdict) -> None:
    tight = replace(SETTINGS, latency_ms=0.001, memory_mb=1e6)
    verdict = made.weigh(made.guess, made.look, tight)
    assert (verdict.outcome, verdict.allows) == (WORSE, False)
    forth, back = of(better, "recall"), of(verdict, "recall")
    assert back["difference"] == pytest.approx(-forth["difference"])
    assert (back["low"], back["high"]) == pytest.approx((-forth["high"], -forth["low"]), abs=0.03)
    (broken,) = verdict.details["budgets_broken"]
    assert "latency_ms" in broken
    assert "latency_ms" in verdict.sentence


def test_a_first_champion_has_to_beat_a_baseline(made: Made) -> None:
    verdict = made.weigh(made.guess, None)
    assert verdict.champion is None
    assert not verdict.allows
    assert verdict.outcome in (WORSE, TOO_FEW)
    assert of(verdict, "above_chance")["other"] == 0.5
    assert of(verdict, "recall")["other"] > of(verdict, "recall")["challenger"]
    assert find_version(NAME, "1").tags["verdict.against"] == "baselines"


def test_the_baseline_itself_has_chance_to_beat(made: Made) -> None:
    verdict = made.weigh(made.look, None)
    (chance,) = verdict.details["compared"]
    assert chance["measure"] == "above_chance"
    assert chance["challenger"] == pytest.approx(0.755, abs=0.1)
    assert verdict.allows == (chance["low"] > 0) == (verdict.outcome == BETTER)
    assert verdict.details["flips"] == []


def test_a_category_that_is_lost_makes_it_worse(made: Made, encoder: Encoder) -> None:
    half = registered(guessing(encoder, made.manifest, 2, ["metal"]), made.manifest, made.folder, "half")
    verdict = made.weigh(half, made.guess)
    assert (verdict.outcome, verdict.allows) == (WORSE, False)
    assert verdict.details["lost"] == ["fabric"]
    assert "fabric" in verdict.sentence
    assert set(verdict.details["images"]) == {"metal"}


def test_a_new_category_is_named_and_one_without_test_images_is_not_passed_over(made: Made, encoder: Encoder) -> None:
    whole, half = guessing(encoder, made.manifest, 1), guessing(encoder, made.manifest, 2, ["metal"])
    tests = SharedImages(made.manifest, Linked(True), "1")
    grown = scope_of(tests, Pair(whole, half, ("one", "two")))
    assert (grown.new, grown.lost, set(grown.rows)) == (["fabric"], [], {"metal"})
    kept = [row for row in made.manifest.rows if row.label == 0 or row.category != "fabric"]
    few = scope_of(replace(tests, manifest=replace(made.manifest, rows=kept)), Pair(whole, whole, ("one", "two")))
    assert (few.untested, set(few.rows)) == (["fabric"], {"metal"})


def test_an_image_that_one_was_trained_on_judges_neither(made: Made, encoder: Encoder) -> None:
    one, two = guessing(encoder, made.manifest, 1), guessing(encoder, made.manifest, 2)
    test = made.manifest.split("test")
    two.seen = SeenImages.of([test[0].sha256])
    assert unseen(test, Linked(True), (one, two)) == test[1:]
    same_part = Linked(True, [[test[0].path, test[1].path]])
    assert unseen(test, same_part, (one, two)) == test[2:]


def test_other_images_than_those_it_was_tested_on_are_refused(made: Made) -> None:
    file = made.folder / "data/metal/test/bad/003.png"
    before, logged = file.read_bytes(), artefacts(made.look)
    file.write_bytes((made.folder / "data/metal/test/bad/004.png").read_bytes())
    try:
        with pytest.raises(UserError, match=r"metal/test/bad/003\.png"):
            made.weigh(made.look, made.guess)
        file.unlink()
        with pytest.raises(UserError, match=r"metal/test/bad/003\.png.*dvc pull"):
            made.weigh(made.look, made.guess)
    finally:
        file.write_bytes(before)
    assert artefacts(made.look) == logged


def test_another_mask_is_refused(made: Made) -> None:
    file = made.folder / "data/metal/ground_truth/bad/003_mask.png"
    before = file.read_bytes()
    Image.new("L", (64, 64), 255).save(file)
    try:
        with pytest.raises(UserError, match=r"metal/test/bad/003\.png"):
            made.weigh(made.look, made.guess)
    finally:
        file.write_bytes(before)


def test_one_that_keeps_no_test_images_is_weighed_on_the_champions(made: Made, encoder: Encoder) -> None:
    alone = registered(guessing(encoder, made.manifest, 3), None, made.folder, "alone")
    assert images_of(NAME, alone, made.look, made.folder / "fetched").version == made.look.number
    again = replace(alone, tags={"recalibrated.from": made.guess.number})
    assert images_of(NAME, again, made.look, made.folder / "fetched").version == made.guess.number
    set_version_tags(NAME, alone.number, {"recalibrated.from": made.guess.number})
    twice = registered(guessing(encoder, made.manifest, 5), None, made.folder, "twice")
    for origin, kept_by in ((alone.number, made.guess), (twice.number, made.look), ("no number", made.look)):
        tagged = replace(twice, tags={"recalibrated.from": origin})
        assert images_of(NAME, tagged, made.look, made.folder / "fetched").version == kept_by.number
    fewer = replace(made.manifest, rows=list(made.manifest.rows)[:-3])  # images of the test
    less = registered(guessing(encoder, made.manifest, 4), fewer, made.folder, "less")
    assert len(images_of(NAME, less, made.look, made.folder / "fetched").dropped) == 3
    assert not images_of(NAME, made.look, less, made.folder / "fetched").dropped
    # An older version that comes again is weighed on the tests of now.
    assert images_of(NAME, made.look, less, made.folder / "fetched").version == less.number
    with pytest.raises(UserError, match="--force"):
        images_of(NAME, alone, None, made.folder / "fetched")


def test_without_test_images_nothing_can_be_said(made: Made, encoder: Encoder) -> None:
    untested = replace(made.manifest, rows=[row for row in made.manifest.rows if row.split != "test"])
    none = registered(guessing(encoder, made.manifest, 6), untested, made.folder, "none")
    for champion in (made.look, None):
        verdict = made.weigh(none, champion)
        assert (verdict.outcome, verdict.allows, verdict.details["compared"]) == (TOO_FEW, False, [])


def test_a_peak_of_memory_is_a_processes_own() -> None:
    held = np.ones(2**26)  # half a gigabyte, which a child does not have
    command = [sys.executable, "-c", "from pipelines.promote.cost import peak_memory; print(peak_memory())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 200 < held.nbytes / 1e6 < peak_memory()
