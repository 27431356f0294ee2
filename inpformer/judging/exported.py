"""An exported detector: a folder with its networks for a runtime, and all else that a decision takes, as JSON."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpformer.backends.graphs import ENCODER_GRAPH
from inpformer.backends.names import PRECISIONS, RUNTIMES
from inpformer.backends.quantised import quantise
from inpformer.config import build, require
from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.images.tiling import Tiling
from inpformer.judging.calibration import Threshold
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import PLAUSIBILITY_FILE, Plausibility

EXPORT_FILE = "export.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Export:
    """What export.json holds: which `models` (numbers of files, one, or one a fold) judge which category, or all; what
    becomes of a picture before the encoder (`white` as in `EncoderSettings`); the `thresholds`; and the sha256 (hex) of
    the other `files`. `version` is the one in the registry, None of a detector that is in none.
    """

    format_version: int
    backend: str
    precision: int
    version: str | None
    resize: int
    crop: int
    tiling: Tiling | None
    models: dict[str, tuple[int, ...]]
    thresholds: dict[str, Threshold]
    files: dict[str, str]
    white: int = WHITE

    def __post_init__(self) -> None:
        require(self.format_version == FORMAT_VERSION, "format_version", self.format_version, str(FORMAT_VERSION))
        require(self.backend in RUNTIMES, "backend", self.backend, f"one of {', '.join(RUNTIMES)}")
        require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(map(str, PRECISIONS))}")


def write_networks(
    detector: Detector, folder: Path, precision: int, pictures: Iterable[NDArray[np.uint8]] = ()
) -> dict[str, str]:
    """Writes the networks into `folder`; the sha256 (hex) of the files by name. With 8 bits that is the encoder, whose
    ranges `pictures` set (see `quantise`): the trained part stays in 32. Raises what `write_graphs` raises.
    """
    files = detector.write_graphs(folder, 16 if precision == 16 else 32)
    if precision == 8:
        quantise(folder / ENCODER_GRAPH, pictures)
    return {file.name: _sha256(file) for file in files}


def write_config(
    detector: Detector,
    folder: Path,
    backend: str,
    precision: int,
    version: str | None,
    thresholds: Mapping[str, Threshold],
    plausibility: Plausibility,
    files: Mapping[str, str],
) -> None:
    """Writes export.json beside the networks, whose digests `files` are, and what good pictures look like."""
    files = dict(files)
    if plausibility.looks:
        files[PLAUSIBILITY_FILE] = plausibility.save(folder / PLAUSIBILITY_FILE)
    transform, numbers = detector.encoder.transform, iter(range(len(detector.in_order)))
    models = {name: tuple(next(numbers) for _ in detector.folds.get(name) or (name,)) for name in detector.names}
    export = Export(
        FORMAT_VERSION,
        backend,
        precision,
        version,
        transform.resize,
        transform.crop,
        detector.tiling,
        models,
        dict(thresholds),
        files,
        transform.white,
    )
    (folder / EXPORT_FILE).write_text(json.dumps(asdict(export), indent=2) + "\n")


def read_export(folder: Path) -> Export:
    """Raises UserError for an export that is damaged or of another format."""
    file = folder / EXPORT_FILE
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): export the version again.") from None
    return build(Export, values, str(file))


def use_export(detector: Detector, folder: Path, version: str | None = None, threads: int = 1) -> None:
    """Has a detector compute with what was exported of it, and decide by the thresholds and looks that go with that;
    `version` is its own.

    Raises UserError for an export that is damaged, of another detector or version, or of a runtime that is not
    installed.
    """
    export = read_export(folder)
    if (
        export.version != version
        or set(export.thresholds) != set(detector.thresholds)
        or set(export.models) != set(detector.names)
    ):
        raise UserError(f"{folder / EXPORT_FILE} is of another detector: export this version again.")
    for name, sha256 in export.files.items():
        if Path(name).name != name or not (folder / name).is_file() or _sha256(folder / name) != sha256:
            raise UserError(f"{folder / EXPORT_FILE} names a file {name!r} that is not there as it was: export again.")
    detector.run_in(export.backend, folder, threads, export.precision)
    detector.thresholds = dict(export.thresholds)
    looks = export.files.get(PLAUSIBILITY_FILE)
    found = folder / PLAUSIBILITY_FILE
    detector.plausibility = Plausibility({}) if looks is None else Plausibility.load(found, looks)


def raised(limits: Threshold, by: float) -> Threshold:
    """The limits that all held-out parts would give if each scored so much more: the part that set a threshold lies on
    it, and rounding must not move it across. What is promised holds as before, as no score of theirs is lowered.
    """
    return replace(
        limits,
        threshold=limits.threshold + by,
        review_threshold=limits.review_threshold + by,
        scores=tuple(score + by for score in limits.scores),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
