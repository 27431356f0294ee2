"""A version as files in a folder, laid out as in its artefacts, and the detector that is loaded from them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from inpformer.backends.names import (
    EXPORT_TAG,
    EXPORTS_FOLDER,
    ONNXRUNTIME,
    OPENVINO,
    RUNTIMES,
    TORCH,
    export_name,
    is_digest,
)
from inpformer.digests import folder_digest
from inpformer.encoders.encoder import Encoder, load_fetched
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.exported import use_export
from serving import signature
from serving.encoders import EncoderChoice, encoder_digest, encoder_weights

# Where `mlflow.pyfunc.log_model(..., artifacts={"detector": <a folder named detector>})` puts it in a version.
DETECTOR_FOLDER = "artifacts/detector"
# The tags of its exports, as the registry had them, and weights of encoders, each by the sha256 of its address.
TAGS_FILE, WEIGHTS_FOLDER = "tags.json", "weights"
# What a CPU uses of its own accord, the fastest first (benchmarks/latency.md). 8 bits decide otherwise than the version
# that was promoted, so somebody must ask for them.
PREFERRED, PRECISION = (ONNXRUNTIME, OPENVINO), 32


@dataclass(frozen=True)
class Wanted:
    """How a version is to be loaded, as `Settings` has it. `device` is what torch computes on; only a CPU takes an
    export.
    """

    device: torch.device | str = "cpu"
    encoder_weights: str | None = None
    verify_key: str | None = None
    backend: str | None = None
    precision: int | None = None

    def __post_init__(self) -> None:
        if self.backend == TORCH and self.precision not in (None, 32):
            raise UserError(f"--precision is {self.precision}, and torch computes in 32 bits: leave one of both out.")

    @property
    def takes_exports(self) -> bool:
        """Whether a version's export may compute."""
        return self.backend != TORCH and torch.device(self.device).type == "cpu"


@dataclass(frozen=True)
class Export:
    """The export of a version that computes: its runtime, and the digest that its folder is called by."""

    backend: str
    digest: str

    @property
    def folder(self) -> str:
        """Within the version."""
        return f"{EXPORTS_FOLDER}/{self.digest}"

    @property
    def signature(self) -> str:
        """Of the folder, within the version."""
        return f"{Path(signature.SIGNATURE).parent}/{self.digest}.sig"


@dataclass(frozen=True)
class Loaded:
    """A version's detector, its digest, and what an operator should know of how it was loaded, if anything."""

    detector: Detector
    digest: str
    notice: str | None


def chosen_export(tags: Mapping[str, str], wanted: Wanted, version: int) -> Export | None:
    """The export for the wanted backend, or for the first of PREFERRED that the version has one for, and with the
    wanted precision, or PRECISION; None where neither was asked for and there is none.

    Raises UserError where there is none that was asked for.
    """
    if not wanted.takes_exports:
        return None
    bits = wanted.precision or PRECISION
    kept = {one: tags.get(f"{EXPORT_TAG}{export_name(one, bits)}") for one in RUNTIMES}
    chosen = wanted.backend or next((one for one in PREFERRED if kept[one]), None)
    if chosen is None and wanted.precision is None:
        return None
    chosen = chosen or PREFERRED[0]
    if (digest := kept[chosen]) is None:
        raise UserError(
            f"it has no export for {chosen} of {bits} bits: make one with `python -m pipelines.export {version} "
            f"--backend {chosen} --precision {bits}`, or leave --backend and --precision out."
        )
    if not is_digest(digest):
        raise UserError(f"its tag {EXPORT_TAG}{export_name(chosen, bits)} holds no digest: export it again.")
    return Export(chosen, digest)


def load(
    folder: Path,
    model: str,
    version: int,
    wanted: Wanted,
    encoder: Encoder | None,
    download: Callable[[str, Path], Path],
) -> Loaded:
    """The detector of a version whose files lie in `folder`. `encoder` is one that is on the device already, shared if
    it is this version's. Weights that lie in S3 are taken from the folder, or `download` puts them there (an address,
    and the folder to put it into; gives the file).

    Raises UserError naming the version if it is no detector that this machine can run, or not signed as wanted.
    """
    detector_folder = folder / DETECTOR_FOLDER
    if wanted.verify_key:
        _verify(model, version, folder, DETECTOR_FOLDER, signature.SIGNATURE, Path(wanted.verify_key))

    def weights(address: str) -> Path:
        place = folder / WEIGHTS_FOLDER / weights_name(address)
        if not place.is_file():
            place.parent.mkdir(exist_ok=True)
            download(address, place.parent).rename(place)
        return place

    def load_encoder(settings: EncoderSettings) -> Encoder:
        return load_fetched(settings, weights)

    try:
        choice = EncoderChoice(encoder_digest(detector_folder), encoder, wanted.encoder_weights, load_encoder)
        detector = Detector.load(detector_folder, device=wanted.device, load=choice)
        if export := chosen_export(read_tags(folder), wanted, version):
            if wanted.verify_key:
                _verify(model, version, folder, export.folder, export.signature, Path(wanted.verify_key))
            # On busy cores several threads do no harm in ONNX Runtime alone (benchmarks/latency.md).
            threads = torch.get_num_threads() if export.backend == ONNXRUNTIME else 1
            use_export(detector, folder / export.folder, str(version), threads)
        return Loaded(detector, folder_digest(detector_folder), choice.notice)
    except UserError as error:
        raise UserError(f"version {version} of {model} cannot be loaded: {error}") from None


def wanted_weights(folder: Path, wanted: Wanted) -> set[str]:
    """The names, in the folder of weights, of those that the version in `folder` may ask for."""
    addresses = (encoder_weights(folder / DETECTOR_FOLDER), wanted.encoder_weights)
    return {weights_name(address) for address in addresses if address}


def weights_name(address: str) -> str:
    """What a file of weights is called in the folder of weights."""
    return f"{sha256(address.encode()).hexdigest()}.safetensors"


def read_tags(folder: Path) -> dict[str, str]:
    """Of a version in a folder."""
    try:
        tags: dict[str, str] = json.loads((folder / TAGS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / TAGS_FILE} cannot be read ({error}): fetch the version again.") from None
    return tags


def _verify(model: str, version: int, folder: Path, signed: str, signed_by: str, key: Path) -> None:
    """`signed` is a folder in the version and `signed_by` its signature."""
    try:
        signature.check(folder / signed, folder / signed_by, key)
    except UserError as error:
        raise UserError(f"version {version} of {model}: {error}") from None
