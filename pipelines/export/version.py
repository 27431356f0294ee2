"""Exports a registered version, proves that the export decides alike, and makes it part of the version."""

import copy
import json
import shutil
import tempfile
from argparse import Namespace
from pathlib import Path

import torch

from inpformer.backends.names import export_name
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.exported import EXPORT_FILE, raised, use_export, write_config, write_networks
from pipelines.export.page import page
from pipelines.export.proof import TOLERANCES, Proof, images_by_category, prove, unit
from pipelines.platform import files
from pipelines.platform.params import read_section
from pipelines.platform.registry import (
    Version,
    download_detector,
    find_version,
    folder_digest,
    keep_export,
    point_to_export,
)
from pipelines.platform.runs import Run
from pipelines.platform.weights import load_encoder
from pipelines.promote.images import NoImagesError, images_of
from pipelines.record.versions import note_export
from pipelines.register.settings import RegisterSettings

REPORT_FILE, PAGE_FILE, RUN_FILE = "report.json", "index.html", "run.py"
# What runs the export without this project.
ALONE = Path(__file__).with_name("alone")


def run(args: Namespace) -> None:
    """Raises UserError where the export is refused."""
    model_name = read_section("register", RegisterSettings).model_name
    version = find_version(model_name, args.version)
    name = export_name(args.backend, args.precision)
    out = args.out or Path("exports") / f"{model_name}-{version.number}-{name}"
    check_out(out)
    torch.set_num_threads(1)  # as an export has
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        made = Path(folder) / name
        made.mkdir()
        proof = _export(model_name, version, args.backend, args.precision, made, Path(folder))
        if proof.faults:
            under = f"exports/{version.number}-{name}-refused"
            for file in (REPORT_FILE, PAGE_FILE):
                Run(version.run_id).log_file(made / file, under)
            raise UserError(
                f"the export of {model_name} version {version.number} for {name} is refused, as "
                f"{'; '.join(proof.faults)}: look at runs:/{version.run_id}/{under}/{PAGE_FILE}."
            )
        digest = folder_digest(made)
        keep_export(model_name, version.number, digest, made)
        note_export(model_name, version.number, name, digest)
        # The last: what serves is whole and recorded. Cut off before, the export is there, and nobody uses it.
        point_to_export(model_name, version.number, name, digest)
        with files.written_whole(out) as temporary:
            shutil.copytree(made, temporary)
    print(said(model_name, version, proof))
    print(f"{out} is kept with the version; on its own: python {out / RUN_FILE} IMAGE")


def check_out(out: Path) -> None:
    """Raises UserError for a folder that holds something else than an export."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / EXPORT_FILE).is_file())):
        raise UserError(f"--out is {out}, which is there and no export: give another folder.")


def _export(model_name: str, version: Version, backend: str, precision: int, made: Path, folder: Path) -> Proof:
    """Fills the folder `made`, its report too."""
    original = Detector.load(download_detector(model_name, version.number, folder), load=load_encoder)
    if not original.thresholds:
        raise UserError(f"{model_name} version {version.number} has no thresholds: calibrate it before exporting it.")
    try:
        images = images_of(model_name, version, None, folder)
    except NoImagesError:
        raise UserError(
            f"{model_name} version {version.number} keeps no list of its test images, as it was imported or registered "
            "by an older program, so that nothing can be proven of an export: train and register one with `dvc repro`."
        ) from None
    rows = images_by_category(
        [*images.manifest.split("val"), *images.manifest.split("test")], list(original.thresholds)
    )
    networks = write_networks(original, made, precision)
    thresholds = {
        category: raised(limits, TOLERANCES[precision] * unit(limits))
        for category, limits in original.thresholds.items()
    }
    write_config(original, made, backend, precision, version.number, thresholds, networks)
    exported = copy.copy(original)  # another backend and other thresholds, of the same networks
    use_export(exported, made, version.number)
    proof = prove(original, exported, images.manifest.root, rows, backend, precision)
    for file in ALONE.glob("*.py"):
        shutil.copy(file, made)
    title = f"{model_name} version {version.number} for {backend}, {precision} bits"
    (made / REPORT_FILE).write_text(json.dumps(proof.content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    (made / PAGE_FILE).write_text(page(proof, title), encoding="utf-8")
    return proof


def said(model_name: str, version: Version, proof: Proof) -> str:
    """What came of it, in one sentence."""
    images = sum(one.images for one in proof.compared)
    edge = sum(one.on_edge for one in proof.compared)
    scores, maps = (max(getattr(one, what) for one in proof.compared) for what in ("scores", "maps"))
    ours, theirs = proof.milliseconds
    return (
        f"{model_name} version {version.number} for {proof.backend}, {proof.precision} bits: {images} images are "
        f"decided as by PyTorch, {edge} of them on the edge of a threshold; scores differ by at most {scores:.2g} and "
        f"maps by {maps:.2g} of the usual distance between a good part and its threshold; {ours:.1f} ms an image here, "
        f"PyTorch {theirs:.1f}"
    )
