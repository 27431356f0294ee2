"""Where served models come from: MLflow's registry, read by alias. The only module of the service that imports MLflow.

A version's detector is loaded from its three plain files, never through a pyfunc model: no code and no pickle of the
registry's is run, so MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false changes nothing here.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.artifacts
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

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
from inpformer.encoders.encoder import Encoder, load_fetched
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError, without_password
from inpformer.judging.detector import Detector
from inpformer.judging.exported import use_export
from serving import record
from serving import signature as signature_of
from serving.encoders import EncoderChoice, encoder_digest

# Where `mlflow.pyfunc.log_model(..., artifacts={"detector": <a folder named detector>})` puts it in a version.
DETECTOR_FOLDER = "artifacts/detector"
# Beside a local database, whose paths are absolute.
ARTIFACTS = "mlartifacts"
# What a CPU uses of its own accord, the fastest first (benchmarks/latency.md). 8 bits decide otherwise than the version
# that was promoted, so somebody must ask for them.
PREFERRED, PRECISION = (ONNXRUNTIME, OPENVINO), 32
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Loaded:
    """A version's detector, and what an operator should know of how it was loaded, if anything."""

    detector: Detector
    notice: str | None


class Registry:
    """A model registry that is only read. `tracking_uri` is a database or a server, in MLflow's notation."""

    def __init__(self, tracking_uri: str) -> None:
        # MLflow knows these as environment variables alone. Its own seven retries would keep a service waiting for
        # minutes on a server that is down.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._uri = tracking_uri
        self._shown_uri = without_password(tracking_uri)
        # Asking MLflow would make the missing database, and an empty one answers nothing.
        database = Path(tracking_uri.removeprefix("sqlite:///"))
        if tracking_uri.startswith("sqlite:///") and not database.is_file():
            raise UserError(
                f"{database} is no MLflow database: run the pipeline first (`dvc repro`), or set MLFLOW_TRACKING_URI."
            )
        if tracking_uri.startswith("sqlite:///"):
            _check_place(database)
        try:
            self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        except Exception as error:  # a missing driver, an unknown scheme, a database that refuses
            raise self._no_answer(error) from None

    def version(self, model: str, alias: str) -> int:
        """The number of the version that `models:/<model>@<alias>` points to.

        Raises UserError if the registry does not answer and if it has no such model or alias.
        """
        try:
            return int(self._client.get_model_version_by_alias(model, alias).version)
        except Exception as error:  # MLflow passes on what its database driver raises
            if isinstance(error, MlflowException) and error.error_code in NOT_THERE:
                raise UserError(
                    f"models:/{model}@{alias} is not in the registry {self._shown_uri} ({_reason(error)}): "
                    "run `python -m pipelines.promote` first, or correct the model or the alias."
                ) from None
            raise self._no_answer(error) from None

    def drift(self, model: str, version: int) -> str | None:
        """What an operator should know where `version` is @champion and the record of promotions says otherwise; None
        where it agrees, or there is none. Raises UserError if the registry does not answer.
        """
        try:
            tags = self._client.get_registered_model(record.PLACE.format(model)).tags
            step = record.last_step(self._client.get_run(tags[record.RUN_TAG]).data.params)
        except KeyError:
            return None
        except Exception as error:  # MLflow passes on what its database driver raises
            if isinstance(error, MlflowException) and error.error_code in NOT_THERE:
                return None
            raise self._no_answer(error) from None
        if step is None or step.version == str(version):
            return None
        return (
            f"version {version} is @champion, and by the record (entry {step.number}) it is {step.version or 'none'}: "
            f"the alias was moved by hand. The next `python -m pipelines.promote` records that."
        )

    def load(
        self,
        model: str,
        version: int,
        encoder_weights: str | None = None,
        device: torch.device | str = "cpu",
        encoder: Encoder | None = None,
        verify_key: str | None = None,
        backend: str | None = None,
        precision: int | None = None,
    ) -> Loaded:
        """Fetches and loads the detector of a version. `encoder` is one that is on `device` already, shared if it is
        this version's; `encoder_weights` is where else to look for its weights than where it says. With `verify_key`,
        a file with a public key, only what is signed by it is loaded. `backend` and `precision` are as in `Settings`.

        Raises UserError naming the version if it cannot be fetched or is no detector that this machine can run.
        """
        if backend == TORCH and precision not in (None, 32):
            raise UserError(f"--precision is {precision}, and torch computes in 32 bits: leave one of both out.")
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            try:
                source = self._client.get_model_version_download_uri(model, str(version))
                fetched = mlflow.artifacts.download_artifacts(
                    f"{source.rstrip('/')}/{DETECTOR_FOLDER}", dst_path=folder, tracking_uri=self._uri
                )
            except Exception as error:  # every artefact store has its own kinds
                raise UserError(
                    f"version {version} of {model} cannot be fetched ({_reason(error)}): check that its artefacts "
                    f"are still there and that this machine may read them, or point the alias to another version."
                ) from None
            if verify_key:
                self._check_signature(model, version, source, Path(fetched), Path(verify_key), signature_of.SIGNATURE)
            try:
                choice = EncoderChoice(encoder_digest(Path(fetched)), encoder, encoder_weights, _load_encoder)
                detector = Detector.load(Path(fetched), device=device, load=choice)
                if backend != TORCH and detector.encoder.device.type == "cpu":
                    self._use_export(model, version, source, detector, (backend, precision), verify_key)
                return Loaded(detector, choice.notice)
            except UserError as error:
                raise UserError(f"version {version} of {model} cannot be loaded: {error}") from None

    def _use_export(
        self,
        model: str,
        version: int,
        source: str,
        detector: Detector,
        wanted: tuple[str | None, int | None],
        verify_key: str | None,
    ) -> None:
        """Has the detector compute with the version's export for the `wanted` backend, or for the first of PREFERRED
        that it has one for, and with the `wanted` precision, or PRECISION; where neither was asked for and there is
        none, nothing changes.
        """
        backend, precision = wanted
        bits = precision or PRECISION
        try:
            tags = self._client.get_model_version(model, str(version)).tags
        except Exception as error:  # MLflow passes on what its database driver raises
            raise self._no_answer(error) from None
        kept = {one: tags.get(f"{EXPORT_TAG}{export_name(one, bits)}") for one in RUNTIMES}
        chosen = backend or next((one for one in PREFERRED if kept[one]), None)
        if chosen is None and precision is None:
            return
        chosen = chosen or PREFERRED[0]
        if (digest := kept[chosen]) is None:
            raise UserError(
                f"it has no export for {chosen} of {bits} bits: make one with `python -m pipelines.export {version} "
                f"--backend {chosen} --precision {bits}`, or leave --backend and --precision out."
            )
        if not is_digest(digest):
            raise UserError(f"its tag {EXPORT_TAG}{export_name(chosen, bits)} holds no digest: export it again.")
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            try:
                fetched = mlflow.artifacts.download_artifacts(
                    f"{source.rstrip('/')}/{EXPORTS_FOLDER}/{digest}", dst_path=folder, tracking_uri=self._uri
                )
            except Exception as error:  # every artefact store has its own kinds
                raise UserError(f"its export cannot be fetched ({_reason(error)}): export it again.") from None
            if verify_key:
                name = f"{Path(signature_of.SIGNATURE).parent}/{digest}.sig"
                self._check_signature(model, version, source, Path(fetched), Path(verify_key), name)
            # On busy cores several threads do no harm in ONNX Runtime alone (benchmarks/latency.md).
            threads = torch.get_num_threads() if chosen == ONNXRUNTIME else 1
            use_export(detector, Path(fetched), str(version), threads)

    def _check_signature(
        self, model: str, version: int, source: str, detector: Path, key: Path, signed_by: str
    ) -> None:
        """`signed_by` is where the signature of the folder lies in the version."""
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            try:
                signature = mlflow.artifacts.download_artifacts(
                    f"{source.rstrip('/')}/{signed_by}", dst_path=folder, tracking_uri=self._uri
                )
            except Exception as error:  # every artefact store has its own kinds
                raise UserError(
                    f"version {version} of {model} has no signature ({_reason(error)}), and only what {key} verifies "
                    f"is loaded: register it again with INPFORMER_SIGNING_KEY, or point the alias to another version."
                ) from None
            try:
                signature_of.check(detector, Path(signature), key)
            except UserError as error:
                raise UserError(f"version {version} of {model}: {error}") from None

    def _no_answer(self, error: Exception) -> UserError:
        return UserError(
            f"the registry {self._shown_uri} does not answer ({_reason(error)}): start it, or set MLFLOW_TRACKING_URI."
        )


def _check_place(database: Path) -> None:
    """Raises UserError for a database that moved and still names its artefacts in the folder where it was: they may be
    another project's by now. Only the pipeline writes into it.
    """
    here = database.resolve().parent / ARTIFACTS
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        except sqlite3.DatabaseError:  # MLflow says what is wrong with it
            return
    places = [Path(unquote(urlsplit(row[0]).path)) for row in rows if urlsplit(row[0]).scheme in ("", "file")]
    if strange := [place for place in places if place.name == ARTIFACTS and place != here]:
        raise UserError(
            f"{database} was moved or copied and still names its artefacts in {strange[0]}: run `dvc repro` in its "
            "folder, which corrects that."
        )


def _load_encoder(settings: EncoderSettings) -> Encoder:
    """The encoder; of one whose weights lie in S3, MLflow's artefact client fetches them."""
    with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:

        def fetch(uri: str) -> str:
            try:
                return str(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            except Exception as error:  # every artefact store has its own kinds
                raise UserError(
                    f"the encoder's weights {uri} cannot be fetched ({_reason(error)}): check AWS_ENDPOINT_URL and "
                    "the keys, or name a file by --encoder-weights."
                ) from None

        return load_fetched(settings, fetch)


def _reason(error: Exception) -> str:
    """What a library says, cut down to fit the brackets in a sentence of ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Behind these words stands what the network said, before them the whole request.
    said = lines[0].rpartition("Caused by ")[2].rstrip(". )")[:200]
    return without_password(said)
