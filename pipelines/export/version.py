"""Exports a registered version, proves that the export decides alike, and makes it part of the version."""

import copy
import json
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inpformer.backends.names import export_name
from inpformer.backends.runtimes import check_runtime
from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from inpformer.judging.exported import EXPORT_FILE, raised, use_export, write_config, write_networks
from inpformer.judging.plausibility import Plausibility
from pipelines.export import measured_page, page, ranges
from pipelines.export.calibration import calibration_of
from pipelines.export.measured import Measured, measure
from pipelines.export.proof import TOLERANCES, Proof, images_by_category, prove, unit
from pipelines.platform import files
from pipelines.platform.params import read_section
from pipelines.platform.registry import (
    Version,
    download_detector,
    find_version,
    keep_export,
    point_to_export,
)
from pipelines.platform.runs import Run
from pipelines.platform.weights import load_encoder
from pipelines.promote.images import NoImagesError, SharedImages, images_of
from pipelines.promote.rescore import check_there, content_of
from pipelines.promote.settings import PromoteSettings
from pipelines.record.versions import note_export
from pipelines.register.settings import RegisterSettings

REPORT_FILE, PAGE_FILE, RUN_FILE = "report.json", "index.html", "run.py"
# What runs the export without this project.
ALONE = Path(__file__).with_name("alone")


@dataclass(frozen=True)
class Wanted:
    """An export of a version: `original` is its detector, `images` those that it keeps a list of."""

    model_name: str
    version: Version
    backend: str
    precision: int
    original: Detector
    images: SharedImages

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.model_name} version {self.version.number} for {self.backend}, {self.precision} bits"

    def with_thresholds(
        self, folder: Path, thresholds: Mapping[str, Threshold], plausibility: Plausibility, files: Mapping[str, str]
    ) -> Detector:
        """Completes the export in `folder`, whose networks are `files`; returns it as a detector."""
        number = self.version.number
        write_config(self.original, folder, self.backend, self.precision, number, thresholds, plausibility, files)
        exported = copy.copy(self.original)  # another backend and other thresholds, of the same networks
        use_export(exported, folder, number)
        return exported


@dataclass(frozen=True)
class Made:
    """What came of it: `faults` refuse the export, `content` is of REPORT_FILE and `page` of PAGE_FILE, `said` is for
    people.
    """

    faults: Sequence[str]
    content: Mapping[str, Any]
    page: str
    said: str


def run(args: Namespace) -> None:
    """Raises UserError where the export is refused."""
    check_runtime(args.backend)
    model_name = read_section("register", RegisterSettings).model_name
    version = find_version(model_name, args.version)
    name = export_name(args.backend, args.precision)
    out = args.out or Path("exports") / f"{model_name}-{version.number}-{name}"
    check_out(out)
    torch.set_num_threads(1)  # as an export has
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        place = Path(folder) / name
        place.mkdir()
        made = _export(model_name, version, args.backend, args.precision, place, Path(folder))
        if made.faults:
            under = f"exports/{version.number}-{name}-refused"
            for file in (REPORT_FILE, PAGE_FILE):
                Run(version.run_id).log_file(place / file, under)
            raise UserError(
                f"the export of {model_name} version {version.number} for {name} is refused, as "
                f"{'; '.join(made.faults)}: look at runs:/{version.run_id}/{under}/{PAGE_FILE}."
            )
        digest = folder_digest(place)
        keep_export(model_name, version.number, digest, place)
        note_export(model_name, version.number, name, digest)
        # The last: what serves is whole and recorded. Cut off before, the export is there, and nobody uses it.
        point_to_export(model_name, version.number, name, digest)
        with files.written_whole(out) as temporary:
            shutil.copytree(place, temporary)
    print(made.said)
    print(f"{out} is kept with the version; on its own: python {out / RUN_FILE} IMAGE")


def check_out(out: Path) -> None:
    """Raises UserError for a folder that holds something else than an export."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / EXPORT_FILE).is_file())):
        raise UserError(f"--out is {out}, which is there and no export: give another folder.")


def _export(model_name: str, version: Version, backend: str, precision: int, place: Path, folder: Path) -> Made:
    """Fills the folder `place`, its report too."""
    original = Detector.load(download_detector(model_name, version.number, folder), load=load_encoder)
    original.refuse_torch_only()
    if not original.thresholds:
        raise UserError(f"{model_name} version {version.number} has no thresholds: calibrate it before exporting it.")
    try:
        images = images_of(model_name, version, None, folder)
    except NoImagesError:
        raise UserError(
            f"{model_name} version {version.number} keeps no list of its test images, as it was imported or registered "
            "by an older program, so that nothing can be proven of an export: train and register one with `dvc repro`."
        ) from None
    wanted = Wanted(model_name, version, backend, precision, original, images)
    made = _alike(wanted, place) if precision in TOLERANCES else _as_good(wanted, place, folder)
    for file in ALONE.glob("*.py"):
        shutil.copy(file, place)
    (place / REPORT_FILE).write_text(json.dumps(made.content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    (place / PAGE_FILE).write_text(made.page, encoding="utf-8")
    return made


def _alike(wanted: Wanted, place: Path) -> Made:
    """An export that decides as the version does."""
    original, images, precision = wanted.original, wanted.images, wanted.precision
    rows = images_by_category(
        [*images.manifest.split("val"), *images.manifest.split("test")], list(original.thresholds)
    )
    networks = write_networks(original, place, precision)
    thresholds = {
        category: raised(limits, TOLERANCES[precision] * unit(limits))
        for category, limits in original.thresholds.items()
    }
    exported = wanted.with_thresholds(place, thresholds, original.plausibility, networks)
    proof = prove(original, exported, images.manifest.root, rows, wanted.backend, precision)
    return Made(proof.faults, proof.content, page.page(proof, wanted.title), said(wanted, proof))


def _as_good(wanted: Wanted, place: Path, folder: Path) -> Made:
    """An export that has thresholds of its own, as it gives other scores."""
    original, images = wanted.original, wanted.images
    calibration = calibration_of(wanted.model_name, wanted.version, original, images, folder)
    root, good = images.manifest.root, ranges.chosen(images.manifest)
    held_out = list(images.manifest.held_out)
    check_there(root, [*images.manifest.split("test"), *held_out, *good])
    for row in held_out:  # whatever else is read is checked where it is judged
        content_of(root, row)
    networks = write_networks(original, place, wanted.precision, ranges.pictures(original, root, good))
    computing = copy.copy(original)
    computing.run_in(wanted.backend, place, precision=wanted.precision)
    exported = wanted.with_thresholds(place, *calibration.of(computing), networks)
    promises = calibration.promises(exported.thresholds)
    found = measure(original, exported, images, promises, wanted.precision, read_section("promote", PromoteSettings))
    return Made(found.faults, found.content, measured_page.page(found, wanted.title), measured_said(wanted, found))


def said(wanted: Wanted, proof: Proof) -> str:
    """What came of it, in one sentence."""
    images = sum(one.images for one in proof.compared)
    edge = sum(one.on_edge for one in proof.compared)
    scores, maps = (max(getattr(one, what) for one in proof.compared) for what in ("scores", "maps"))
    ours, theirs = proof.milliseconds
    return (
        f"{wanted.title}: {images} images are decided as by PyTorch, {edge} of them on the edge of a threshold; scores "
        f"differ by at most {scores:.2g} and maps by {maps:.2g} of the usual distance between a good part and its "
        f"threshold; {ours:.1f} ms an image here, PyTorch {theirs:.1f}"
    )


def measured_said(wanted: Wanted, found: Measured) -> str:
    """What came of it, a line each: how it compares, and what its thresholds promise."""
    ours, theirs = found.milliseconds
    lines = [
        f"{wanted.title}, against PyTorch: {found.concluded.outcome}. {found.concluded.reasons}",
        f"{found.flips.count} of {sum(found.images.values())} test images are decided differently; {ours:.1f} ms an "
        f"image here, PyTorch {theirs:.1f}",
        *found.promises.values(),
    ]
    return "\n".join(lines)
