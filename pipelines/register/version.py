"""The calibrated detector becomes a version in MLflow's registry, under @challenger. All that MLflow hears of an
evaluation, it hears here: a stage that DVC never takes from its cache.
"""

import hashlib
import json
import tempfile
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from inpformer.digests import folder_digest
from pipelines.evaluate.promise import HELD_TAG, NOT_HELD, promise_tags
from pipelines.gate.log import log_gate
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.params import flat, read_section
from pipelines.platform.registry import (
    DIGEST_TAG,
    Version,
    challenge,
    register,
    set_version_tags,
    with_detector,
)
from pipelines.platform.runs import Run
from pipelines.platform.tracking import shown_uri
from pipelines.record.steps import REGISTRATION
from pipelines.record.versions import note_version
from pipelines.register.evidence import file_digest, gather, read_numbers
from pipelines.register.settings import RegisterSettings
from pipelines.train.run_record import read_run

CONTEXTS = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class Challenger:
    """What the stage leaves: the version that now is @challenger, and the run that made it."""

    model_name: str
    version: str
    run_id: str


def run(args: Namespace) -> None:
    """Points @challenger at the version of the detector, which is made if it is new, and says which that is."""
    model_name = read_section("register", RegisterSettings).model_name
    manifest, run = read_manifest(args.manifest), read_run(args.run)
    digest = folder_digest(args.detector)
    if found := with_detector(model_name, digest):
        challenge(model_name, found.number)
        if run.tags().get(DIGEST_TAG) != digest:
            run.log_metrics(flat(dict([read_numbers(args.evaluation)])))
            tell(run, args, manifest, digest)
        say_changed(found, model_name, args.evaluation)
        tell_promise(found, model_name, args.evaluation)
        left = Challenger(model_name, found.number, found.run_id)
    else:
        left = Challenger(model_name, make(args, manifest, run, model_name), run.run_id)
        tell(run, args, manifest, digest)
    note_version(model_name, left.version, REGISTRATION, digest)
    with files.written_whole(args.out) as temporary:
        temporary.write_text(json.dumps(asdict(left), indent=2) + "\n")
    print(f"{model_name} version {left.version} is @{CHALLENGER} at {shown_uri()}")
    print("to let it serve: python -m pipelines.promote")


def make(args: Namespace, manifest: Manifest, run: Run, model_name: str) -> str:
    """A new version, once the detector was seen to survive being saved; returns its number."""
    from pipelines.register.check import checked  # only here: it loads the model

    detector = checked(args.detector, manifest, args.held_out)
    with tempfile.TemporaryDirectory(prefix="inpformer-") as temporary:
        evidence = gather(args, model_name, manifest, run, detector.encoder.digest, Path(temporary) / "evidence")
        number = register(run, args.detector, model_name, evidence)
    if changed := provenance.uncommitted():
        print(f"not committed: {provenance.listed(changed)}. Commit them, so that this version's code is found again.")
    return number


def tell(run: Run, args: Namespace, manifest: Manifest, digest: str) -> None:
    """The run's data sets and what the gate found; its tag says which detector its metrics are of."""
    log_gate(run, args.findings)
    for split, context in CONTEXTS.items():
        if rows := manifest.split(split):
            content = hashlib.sha256("".join(row.sha256 for row in rows).encode()).hexdigest()
            bad = sum(row.label for row in rows)
            counts = {"images": len(rows), "good": len(rows) - bad, "defective": bad}
            run.log_data(f"{manifest.root.name}/{split}", content, manifest.root, context, counts)
    run.set_tags({DIGEST_TAG: digest})


def say_changed(found: Version, model_name: str, evaluation: Path) -> None:
    """A version's evidence stays, also where the same detector is measured otherwise now."""
    if found.tags.get("evaluation.digest", file_digest(evaluation)) != file_digest(evaluation):
        print(f"{evaluation} differs from what {model_name} version {found.number} was registered with, which stays.")


def tell_promise(found: Version, model_name: str, evaluation: Path) -> None:
    """A version that says nothing of its promise, as it was registered before that was tested, or says that it held,
    is told what is known now: promotion is not to overlook a promise that broke on later test images. It is never told
    the reverse.
    """
    _, numbers = read_numbers(evaluation)
    known, tags = found.tags.get(HELD_TAG), promise_tags(numbers)
    if known is None or (tags[HELD_TAG] == NOT_HELD and known != NOT_HELD):
        # The numbers first: promotion asks HELD_TAG.
        set_version_tags(model_name, found.number, dict(sorted(tags.items())))
