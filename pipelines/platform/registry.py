"""MLflow's registry: versions of the detector, each with its evidence, and the aliases that point at them."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from inpformer.backends.names import EXPORT_TAG, EXPORTS_FOLDER
from inpformer.digests import folder_digest
from inpformer.errors import UserError
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.runs import Run
from pipelines.platform.signing import SIGNATURE_FILE, SIGNATURE_FOLDER, sign_folder, signing_key
from pipelines.platform.tracking import allowed, client, is_absent, reaching_mlflow, tracking_uri

# Where the detector folder and the evidence lie within a version.
DETECTOR_FOLDER = "artifacts/detector"
EVIDENCE_FOLDER = "evidence"
DIGEST_TAG = "detector.digest"
# Of no metric.
NO_STEP = -1
PYFUNC_FILE = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class Version:
    """A registered version; `description` says to people what it was made of."""

    number: str
    run_id: str
    tags: dict[str, str]
    description: str


@dataclass(frozen=True)
class Evidence:
    """What a new version keeps for good: what it says of itself, a folder of files, metrics by name."""

    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@reaching_mlflow
def register(run: Run, detector: Path, model_name: str, evidence: Evidence) -> str:
    """Points @challenger at the version of the detector folder and returns its number. A version with the same
    detector, byte for byte, is taken as it is, whichever run made it; else a new one is made by `run`.

    The folder lies in the version under artifacts/detector; around it stands a pyfunc model made from code, without
    pickle. What a call that was cut off left is taken up.
    """
    digest = folder_digest(detector)
    version = with_detector(model_name, digest)
    number = version.number if version else _make(run, detector, model_name, digest, evidence)
    if version:
        sign_version(model_name, number, detector)
    challenge(model_name, number)
    return number


def register_alone(detector: Path, model_name: str, key: str, name: str, evidence: Evidence) -> str:
    """`register` for a detector that no pipeline run made: the run `name` is opened for a new version alone, again if
    one with the key was cut off.
    """
    if version := with_detector(model_name, folder_digest(detector)):
        challenge(model_name, version.number)
        return version.number
    run = Run.open(key, name, {}, evidence.tags)
    with run.underway():
        return register(run, detector, model_name, evidence)


def _make(run: Run, detector: Path, model_name: str, digest: str, evidence: Evidence) -> str:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())
    server = client()
    model_id = _logged_model(run, digest) or _log_model(run, detector, model_name, digest)
    server.set_terminated(run.run_id, "FINISHED")  # an earlier call may have been cut off in `_log_model`
    _sign(model_id, detector)
    if evidence.folder is not None:
        server.log_model_artifacts(model_id, str(evidence.folder), EVIDENCE_FOLDER)
    run.log_metrics(evidence.metrics, model_id=model_id)
    with suppress(MlflowException):  # it is there; whatever else is wrong, the next call says
        server.create_registered_model(model_name)
    # All at once: from its first moment a version is whole, and found again by its digest.
    made = server.create_model_version(
        model_name,
        f"models:/{model_id}",
        run.run_id,
        {DIGEST_TAG: digest, **{allowed(name): value for name, value in evidence.tags.items()}},
        description=evidence.description,
        model_id=model_id,
    )
    return str(made.version)


@reaching_mlflow
def sign_version(model_name: str, number: str, detector: Path) -> None:
    """Signs a version that was made without a key, where one is configured now; `detector` is what it was made of."""
    if signing_key() is None or is_signed(model_name, number):
        return
    source = str(client().get_model_version(model_name, number).source)
    if source.startswith("models:/"):
        _sign(source.removeprefix("models:/"), detector)


def _sign(model_id: str, detector: Path) -> None:
    """Keeps the signature of a detector folder beside it, where a key is configured."""
    if signing_key() is None:
        return
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
        sign_folder(detector, Path(folder) / SIGNATURE_FILE)
        client().log_model_artifacts(model_id, folder, SIGNATURE_FOLDER)


@reaching_mlflow
def keep_export(model_name: str, number: str, digest: str, folder: Path) -> None:
    """Keeps an exported folder with a version, by its digest, signed where a key is configured. Nobody uses it before
    `point_to_export` names it.
    """
    model_id = _model_id(model_name, number)
    client().log_model_artifacts(model_id, str(folder), f"{EXPORTS_FOLDER}/{digest}")
    if signing_key() is None:
        return
    with tempfile.TemporaryDirectory(prefix="inpformer-") as signed:
        sign_folder(folder, Path(signed) / f"{digest}.sig")
        client().log_model_artifacts(model_id, signed, SIGNATURE_FOLDER)


def point_to_export(model_name: str, number: str, name: str, digest: str) -> None:
    """Has a version's export of that name be the one with the digest, from now on."""
    set_version_tags(model_name, number, {f"{EXPORT_TAG}{name}": digest})


@reaching_mlflow
def download_export(model_name: str, number: str, digest: str, folder: Path) -> Path:
    """Fetches an exported folder of a version into `folder`; returns where it lies."""
    return _fetch(_address(model_name, number, f"{EXPORTS_FOLDER}/{digest}"), folder)


def _model_id(model_name: str, number: str) -> str:
    """Raises UserError for a version that an older program or somebody else registered."""
    source = str(client().get_model_version(model_name, number).source)
    if not source.startswith("models:/"):
        raise UserError(
            f"{model_name} version {number} was not registered by this program, and nothing can be kept with it: "
            "train and register one with `dvc repro`."
        )
    return source.removeprefix("models:/")


def _logged_model(run: Run, digest: str) -> str | None:
    """What an earlier call logged, but did not come to register."""
    server = client()
    found = server.search_logged_models(
        [server.get_run(run.run_id).info.experiment_id],
        f"source_run_id = '{run.run_id}' AND tags.`{DIGEST_TAG}` = '{digest}'",
    )
    return next((str(model.model_id) for model in found if model.status == LoggedModelStatus.READY), None)


def _log_model(run: Run, detector: Path, model_name: str, digest: str) -> str:
    # Only where a version is made: it takes a second.
    import mlflow.pyfunc

    from pipelines.platform.pyfunc import described

    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder, mlflow.start_run(run_id=run.run_id):
        # MLflow names the artefact after its folder, and readers look for it under one name.
        named = shutil.copytree(detector, Path(folder) / Path(DETECTOR_FOLDER).name)
        info = mlflow.pyfunc.log_model(
            name=model_name,
            python_model=str(PYFUNC_FILE),
            artifacts={"detector": str(named)},
            code_paths=[str(PYFUNC_FILE.parents[2] / "inpformer")],
            **described(named),
            tags={DIGEST_TAG: digest},
            # MLflow gives a model all metrics that its run has at this step: those of an earlier detector too.
            step=NO_STEP,
        )
    return str(info.model_id)


@reaching_mlflow
def with_detector(model_name: str, digest: str) -> Version | None:
    """The version whose detector folder has the digest, the first if there are several."""
    found = client().search_model_versions(f"name = '{model_name}' AND tags.`{DIGEST_TAG}` = '{digest}'")
    return min((_version(one) for one in found), key=lambda version: int(version.number), default=None)


@reaching_mlflow
def set_version_tags(model_name: str, number: str, tags: Mapping[str, str]) -> None:
    """Texts of a version by name, in their order."""
    for name, text in tags.items():
        client().set_model_version_tag(model_name, number, allowed(name), text)


def challenge(model_name: str, number: str) -> None:
    """Points @challenger at a version; an alias that does already is not written."""
    if aliases(model_name).get(CHALLENGER) != number:
        set_alias(model_name, CHALLENGER, number)


def _version(held: ModelVersion) -> Version:
    return Version(str(held.version), str(held.run_id), dict(held.tags), held.description or "")


def find_version(model_name: str, wanted: str) -> Version:
    """A version by number or alias. Raises UserError if there is none."""
    held = aliases(model_name)
    if not wanted.isdecimal() and wanted not in held:
        known = ", ".join(f"@{alias}" for alias in sorted(held)) or "none"
        raise UserError(f"{model_name} has no version @{wanted} (it has {known}): run `dvc repro` first.")
    number = wanted if wanted.isdecimal() else held[wanted]
    if (version := _numbered(model_name, number)) is None:
        raise UserError(f"{model_name} has no version {number} (it has {_known(model_name)}): give one that it has.")
    return version


@reaching_mlflow
def _numbered(model_name: str, number: str) -> Version | None:
    if not number.isdecimal():  # a tag or an entry of the record may say anything
        return None
    found = client().search_model_versions(f"name = '{model_name}'")
    return next((_version(one) for one in found if int(one.version) == int(number)), None)


def has_version(model_name: str, number: str) -> bool:
    """Whether there is such a version, still."""
    return _numbered(model_name, number) is not None


def _known(model_name: str) -> str:
    numbers = version_numbers(model_name)
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else ", ".join(numbers) or "none"


@reaching_mlflow
def version_numbers(model_name: str) -> list[str]:
    """All of them, the first first."""
    return sorted((str(one.version) for one in client().search_model_versions(f"name = '{model_name}'")), key=int)


@reaching_mlflow
def aliases(model_name: str) -> dict[str, str]:
    """The version that each alias of a registered model points at. Raises UserError for an unknown model."""
    try:
        held = client().get_registered_model(model_name).aliases
    except MlflowException as error:
        if is_absent(error):
            raise UserError(f"the registry has no model {model_name}: run `dvc repro` first.") from None
        raise
    return {alias: str(number) for alias, number in held.items()}  # a database gives numbers, a server texts


@reaching_mlflow
def set_alias(model_name: str, alias: str, number: str | None) -> None:
    """Points an alias at a version, or takes it away."""
    if number is None:
        client().delete_registered_model_alias(model_name, alias)
    else:
        client().set_registered_model_alias(model_name, alias, number)


@reaching_mlflow
def note(model_name: str, name: str) -> str:
    """A text kept beside the registered model; "" if there is none."""
    return str(client().get_registered_model(model_name).tags.get(name, ""))


@reaching_mlflow
def set_note(model_name: str, name: str, text: str) -> None:
    """Keeps a text beside the registered model; `note` is its counterpart."""
    client().set_registered_model_tag(model_name, name, text)


def _address(model_name: str, number: str, name: str) -> str:
    """Of a file or folder of a version."""
    source = client().get_model_version_download_uri(model_name, number)
    return f"{source.rstrip('/')}/{name}"


def _is_there(address: str) -> bool:
    above, _, name = address.rpartition("/")
    return any(one.path.rpartition("/")[2] == name for one in list_artifacts(above, tracking_uri=tracking_uri()))


def _fetch(address: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(download_artifacts(address, dst_path=str(folder), tracking_uri=tracking_uri()))


@reaching_mlflow
def download_detector(model_name: str, number: str, folder: Path) -> Path:
    """Fetches the detector folder of a version into `folder`; returns where it lies."""
    return _fetch(_address(model_name, number, DETECTOR_FOLDER), folder)


@reaching_mlflow
def download_evidence(model_name: str, number: str, folder: Path, name: str | None = None) -> Path | None:
    """Fetches a version's evidence, or one file of it, into `folder`; returns where it lies, None if the version keeps
    no such.
    """
    address = _address(model_name, number, EVIDENCE_FOLDER if name is None else f"{EVIDENCE_FOLDER}/{name}")
    return _fetch(address, folder) if _is_there(address) else None


@reaching_mlflow
def is_signed(model_name: str, number: str) -> bool:
    """Whether a version has a signature."""
    return _is_there(_address(model_name, number, SIGNATURE_FOLDER))


@reaching_mlflow
def download_signature(model_name: str, number: str, folder: Path) -> Path:
    """Fetches the signature of the detector folder of a version that is signed; returns where it lies."""
    return _fetch(_address(model_name, number, f"{SIGNATURE_FOLDER}/{SIGNATURE_FILE}"), folder)
