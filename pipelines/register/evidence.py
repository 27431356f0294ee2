"""What a new version keeps of its pipeline run: description, tags, metrics, and the files that prove them."""

import hashlib
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from inpformer.digests import folder_digest
from pipelines.evaluate.promise import promise_tags, verdict
from pipelines.manifest.table import Manifest
from pipelines.platform import provenance
from pipelines.platform.params import PARAMS_FILE, flat, read_all
from pipelines.platform.registry import Evidence
from pipelines.platform.runs import Run

# In a description, by their names in people's mouths.
KEY_NUMBERS = {
    "miss_rate": "misses",
    "false_alarm_rate": "false alarms",
    "image_auroc": "image AUROC",
    "aupro": "AUPRO",
    "spro": "sPRO",
}
NAMED_CATEGORIES = 6
MANIFEST_FILE, LINKED_FILE, PROVENANCE_FILE = "manifest.parquet", "gate/linked.json", "provenance.json"


def read_numbers(file: Path) -> tuple[str, dict[str, Any]]:
    """The setting and its exact numbers, as evaluate left them."""
    ((setting, numbers),) = json.loads(file.read_text()).items()
    return setting, numbers


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file, or of a folder's files and their names, as they are now."""
    if path.is_dir():
        return folder_digest(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gather(
    args: Namespace, model_name: str, manifest: Manifest, run: Run, encoder_digest: str, folder: Path
) -> Evidence:
    """Copies the files into `folder` and writes provenance.json and the model card beside them."""
    from pipelines.register import card  # only where a version is made: its library takes a second

    setting, numbers = read_numbers(args.evaluation)
    folder.mkdir()
    for file in (args.held_out, args.evaluation, args.table, args.scores):
        shutil.copy(file, folder)
    shutil.copytree(args.plots, folder / "pictures")
    shutil.copy(args.outliers, folder / "pictures")
    shutil.copytree(args.gate, folder / "gate")
    for file in (args.findings, args.linked):
        shutil.copy(file, folder / "gate")
    # Whoever weighs this version against a later one judges the same images again.
    shutil.copyfile(args.manifest, folder / MANIFEST_FILE)
    if provenance.LOCK_FILE.is_file():
        shutil.copy(provenance.LOCK_FILE, folder)  # by which hash DVC knows the images
    hashed = (args.manifest, args.features, args.model, args.detector, args.evaluation, PARAMS_FILE)
    made_of = {
        "run_id": run.run_id,
        "data": {"folder": manifest.root.as_posix(), "digest": manifest.digest},
        "encoder.digest": encoder_digest,
        "git.commit": provenance.git_commit(),
        "git.uncommitted": provenance.uncommitted(),
        "ray.job": provenance.ray_job(),
        "threads": {"cores": os.cpu_count(), provenance.THREADS: os.environ.get(provenance.THREADS)},
        "sha256": {path.as_posix(): file_digest(path) for path in hashed},
        "params": read_all(),
    }
    (folder / PROVENANCE_FILE).write_text(json.dumps(made_of, indent=2, default=str) + "\n")
    text = card.read(model_name, setting, manifest, numbers, args.table, args.detector, made_of).text
    (folder / card.FILE).write_text(text)
    tags = {
        "setting": setting,
        "data.digest": manifest.digest,
        "encoder.digest": encoder_digest,
        "method": str(read_all().get("train", {}).get("method", "")),
        "seed": str(read_all().get("train", {}).get("seed", "")),
        **provenance.code_tags(),
        "evaluation.digest": file_digest(args.evaluation),
        **promise_tags(numbers),
    }
    return Evidence(describe(setting, manifest, numbers), tags, folder, flat({setting: numbers}))


def describe(setting: str, manifest: Manifest, numbers: dict[str, Any]) -> str:
    """What a person is to know before the version serves."""
    names = manifest.categories[:NAMED_CATEGORIES]
    more = f" and {len(manifest.categories) - len(names)} more" if len(manifest.categories) > len(names) else ""
    mean, bounds = numbers["mean"], numbers["interval"]["mean"]
    said = [
        f"{words} {mean[name]:.4f}"
        + (f" [{bounds[name]['low']:.4f}, {bounds[name]['high']:.4f}]" if name in bounds else "")
        for name, words in KEY_NUMBERS.items()
        if name in mean
    ]
    return "\n".join(
        [
            f"{setting} on {manifest.root.as_posix()} ({', '.join(names)}{more}), data {manifest.digest[:12]}",
            f"{', '.join(said)} (mean over the categories' test images)",
            verdict(numbers),
            provenance.code(),
        ]
    )
