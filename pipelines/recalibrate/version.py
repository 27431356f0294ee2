"""New thresholds for a registered version, without training: for another camera, light or line, from good images."""

import hashlib
import re
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inpformer.devices import best_device, device_name
from inpformer.digests import folder_digest
from inpformer.errors import UserError
from inpformer.images.layouts.sample import list_images
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import Plausibility
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.challenges import challenges
from pipelines.calibrate.held_out import GoodImage, plausibility, promise, scores_of, thresholds, unchecked, unseen_by
from pipelines.calibrate.judge import InProcess
from pipelines.calibrate.other_device import check_on_cpu
from pipelines.gate.settings import GateSettings
from pipelines.gate.similar import look_for_linked
from pipelines.manifest.settings import ManifestSettings
from pipelines.platform import provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.params import read_section
from pipelines.platform.registry import Evidence, download_detector, find_version, register_alone
from pipelines.platform.weights import load_encoder
from pipelines.record.steps import RECALIBRATION
from pipelines.record.versions import note_version
from pipelines.register.settings import RegisterSettings

KEPT_TAGS = ("setting", "data.digest", "encoder.digest", "seed", "imported.from", "imported.sha256")


def good_images(folder: Path, category: str, part: str | None) -> list[GoodImage]:
    """The images of a folder; `part` is the regular expression over a file's name whose first group names its part.

    Raises UserError if there are none, and if `part` fits none of them.
    """
    files = list_images(folder)
    if not files:
        raise UserError(f"--normals is {folder}: there are no images in it, give a folder of good parts.")
    found = [None if part is None else re.search(part, file.name) for file in files]
    if part is not None and not any(found):
        raise UserError(
            f"the expression {part!r} (manifest.part, or --part) fits none of the {len(files)} names in {folder}, e.g. "
            f"{files[0].name}: give --part one that does, or --part '' if every image shows a part of its own."
        )
    parts = [(match[1] or "") if match else "" for match in found]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return [GoodImage(file, category, sha256, name) for file, sha256, name in zip(files, digests, parts, strict=True)]


def linked_images(folder: Path, images: Sequence[GoodImage], white: int) -> list[GoodImage]:
    """The same with their groups: near duplicates are looked for, as the gate does. `white` is the detector's."""
    names = [str(image.path.relative_to(folder)) for image in images]
    linked = look_for_linked(folder, names, [image.sha256 for image in images], white)
    return [replace(image, linked=linked.group(name)) for image, name in zip(images, names, strict=True)]


def part_expression(given: str | None) -> str | None:
    """What names the part in a file's name: `given` ("": nothing does), else manifest.part. Raises UserError for what
    is no such expression.
    """
    if given is None:
        return read_section("manifest", ManifestSettings).part
    try:
        return ManifestSettings("unused", part=given or None).part
    except UserError as error:
        raise UserError(f"--{error}") from None


def digest_of(images: Sequence[GoodImage]) -> str:
    """sha256 (hex) over the images' contents, copies once."""
    return hashlib.sha256(b"".join(dict.fromkeys(bytes.fromhex(image.sha256) for image in images))).hexdigest()


def check_category(detector: Detector, category: str) -> None:
    """Raises UserError for a category that the detector does not know: most likely a slip of the pen."""
    known = set(detector.thresholds) | set(detector.learnt_from.categories)
    if known and category not in known:
        raise UserError(f"--category is {category}: this detector knows {', '.join(sorted(known))}.")


def run(args: Namespace) -> None:
    """Calibrates one category anew and registers the result."""
    # New images are unseen by all models: they set a threshold of their own, also of a detector of folds.
    settings = replace(read_section("calibrate", CalibrationSettings), unseen=args.unseen, folds=None)
    model_name = read_section("register", RegisterSettings).model_name
    part = part_expression(args.part)
    look = "near_duplicates" not in read_section("gate", GateSettings).ignore
    images = good_images(args.normals, args.category, part)
    source = find_version(model_name, args.version)
    device = best_device()
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        fetched, made = download_detector(model_name, source.number, Path(folder)), Path(folder) / "recalibrated"
        detector = Detector.load(fetched, args.encoder_weights, device, load_encoder)
        check_category(detector, args.category)
        if look:
            images = linked_images(args.normals, images, detector.encoder.settings.white)
        detector.thresholds.pop(args.category, None)  # the scores of models of folds would follow it
        scores, looks = scores_of(InProcess(detector), images)
        threshold = thresholds(images, scores, settings, unseen_by(detector, settings))[args.category]
        detector.thresholds[args.category] = threshold
        others = {name: own for name, own in detector.plausibility.looks.items() if name != args.category}
        detector.plausibility = Plausibility(others | plausibility(images, looks).looks)
        kept = tuple(one for one in detector.challenges if one.category != args.category)
        detector.challenges = kept + challenges(detector, images, scores)
        detector.save(made)
        on_cpu = Detector.load(made, args.encoder_weights, load=load_encoder)
        paths, categories = [image.path for image in images], [image.category for image in images]
        check_on_cpu(on_cpu, paths, categories, scores, device_name(device))
        parts, normals = len(threshold.scores), digest_of(images)
        promised = promise(args.category, threshold, images, look, settings, "--unseen")
        tags = {
            # What was measured, and hashed, belongs to the old thresholds.
            **{k: v for k, v in source.tags.items() if k in KEPT_TAGS},
            **provenance.code_tags(),
            "recalibrated.from": source.number,
            "recalibrated.category": args.category,
            "recalibrated.images": str(len(images)),
            "recalibrated.parts": str(parts),
            "recalibrated.digest": normals,
            "recalibrated.unseen": threshold.unseen,
        }
        description = "\n".join(
            [
                f"version {source.number} with new thresholds from {args.normals}, not measured on test images",
                promised,
                f"{source.tags.get('setting', 'no setting')}, data {source.tags.get('data.digest', 'unknown')[:12]}",
                provenance.code(),
            ]
        )
        key = f"recalibrate {source.number} {args.category} {normals} {part} {look} {settings}"
        name = f"recalibrate-{args.category}"
        version = register_alone(made, model_name, key, name, Evidence(description, tags))
        note_version(model_name, version, RECALIBRATION, folder_digest(made))
    if part is None:
        print("the names do not say which images show one part: --part would")
    else:
        print(f"{len(images)} images of {parts} parts, by the names' part {part!r}")
    print("\n".join([promised, *unchecked(detector)]))
    print(f"{model_name} version {version} is @{CHALLENGER}; to let it serve: python -m pipelines.promote")
