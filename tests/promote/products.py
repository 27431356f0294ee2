"""A small data set of the demo's products, and versions of detectors for it in a real registry."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from demo.data.render import render
from inpformer.encoders.encoder import Encoder
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.seen import SeenImages
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.held_out import GoodImage, scores_of, thresholds
from pipelines.calibrate.judge import InProcess
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked, write_linked
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, write_manifest
from pipelines.platform.registry import Evidence, Version, find_version, register
from pipelines.platform.runs import Run
from pipelines.promote.baseline import fit_baseline
from pipelines.register.evidence import LINKED_FILE, MANIFEST_FILE, PROVENANCE_FILE
from tests.conftest import INP_FORMER, OWN, untrained

NAME = "inpformer"
DEFECTS = {"metal": "scratch", "fabric": "hole"}
TRAIN, TEST = 20, 10
ASKED = CalibrationSettings(0.2)
OWN_BASELINE = {"grid": 4, "channels": 32}


def products(root: Path) -> Manifest:
    """Two categories, 20 good training images each, of which 4 are held out, and 10 test images of each class."""
    for category, defect in DEFECTS.items():
        for place, count, wrong in (("train/good", TRAIN, None), ("test/good", TEST, None), ("test/bad", TEST, defect)):
            for number in range(count):
                image, mask = render(category, wrong, (len(place), number, len(category)), 64)
                file = root / category / place / f"{number:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
                if wrong:
                    truth = root / category / "ground_truth" / "bad" / f"{number:03}_mask.png"
                    truth.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask.astype(np.uint8) * 255).save(truth)
    return build_manifest(root, ManifestSettings("unused"))


def guessing(encoder: Encoder, manifest: Manifest, seed: int, categories: Sequence[str] = tuple(DEFECTS)) -> Detector:
    """An untrained detector, calibrated on the held-out images."""
    seen = SeenImages.of(row.sha256 for row in manifest.split("train"))
    learnt = LearntFrom("multi-class", manifest.digest, tuple(manifest.categories))
    made = Detector(encoder, INP_FORMER, OWN, {ALL: untrained(encoder, seed)}, learnt, {}, seen=seen)
    good = [
        GoodImage(manifest.root / row.path, row.category, row.sha256, row.part)
        for row in manifest.held_out
        if row.category in categories
    ]
    made.thresholds = thresholds(good, scores_of(InProcess(made), good)[0], ASKED, "checked")
    return made


def looking(encoder: Encoder, manifest: Manifest, store: Path) -> Detector:
    """A detector that has a memory of the training images."""
    like = guessing(encoder, manifest, 0)
    return fit_baseline(like, manifest, Linked(True), FeatureSettings(store=str(store)), OWN_BASELINE)


def registered(detector: Detector, manifest: Manifest | None, folder: Path, name: str) -> Version:
    """The version of a detector, with the evidence that the gate reads."""
    shutil.rmtree(folder / name, ignore_errors=True)
    detector.save(folder / name / "detector")
    evidence = folder / name / "evidence"
    evidence.mkdir()
    if manifest is not None:
        write_manifest(manifest, evidence / MANIFEST_FILE)
        write_linked(Linked(True), evidence / LINKED_FILE)
        (evidence / PROVENANCE_FILE).write_text(json.dumps({"params": {"calibrate": asdict(ASKED)}}))
    run = Run.open(name, name, {}, {})
    return find_version(NAME, register(run, folder / name / "detector", NAME, Evidence("", {}, evidence)))
