"""Where served models come from: MLflow's registry, read by alias. The only module of the service that imports MLflow.

A version's detector is loaded from its three plain files, never through a pyfunc model: no code and no pickle of the
registry's is run, so MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false changes nothing here.
"""

import errno
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError, without_password
from serving import fetched, record, signature
from serving.fetched import DETECTOR_FOLDER, TAGS_FILE, Loaded, Wanted

# Beside a local database, whose paths are absolute.
ARTIFACTS = "mlartifacts"
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class NotThereError(UserError):
    """The registry answers, and has no such model or alias."""


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

    @cached_property
    def _client(self) -> MlflowClient:
        try:
            return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        except Exception as error:  # a missing driver, an unknown scheme, a database that refuses
            raise self._no_answer(error) from None

    def version(self, model: str, alias: str) -> int:
        """The number of the version that `models:/<model>@<alias>` points to.

        Raises UserError if the registry does not answer, NotThereError if it has no such model or alias.
        """
        client = self._client
        try:
            return int(client.get_model_version_by_alias(model, alias).version)
        except Exception as error:  # MLflow passes on what its database driver raises
            if isinstance(error, MlflowException) and error.error_code in NOT_THERE:
                raise NotThereError(
                    f"models:/{model}@{alias} is not in the registry {self._shown_uri} ({_reason(error)}): "
                    "run `python -m pipelines.promote` first, or name another model (register.model_name) or alias."
                ) from None
            raise self._no_answer(error) from None

    def last_step(self, model: str) -> record.LastStep | None:
        """What the record of promotions says of @champion; None where there is none, or it says nothing just now.
        Raises UserError if the registry does not answer.
        """
        client = self._client
        try:
            tags = client.get_registered_model(record.PLACE.format(model)).tags
            return record.last_step(client.get_run(tags[record.RUN_TAG]).data.params)
        except KeyError:
            return None
        except Exception as error:  # MLflow passes on what its database driver raises
            if isinstance(error, MlflowException) and error.error_code in NOT_THERE:
                return None
            raise self._no_answer(error) from None

    def load(self, model: str, version: int, wanted: Wanted | None = None, encoder: Encoder | None = None) -> Loaded:
        """Fetches and loads the detector of a version. `encoder` is one that is on the wanted device already, shared if
        it is this version's.

        Raises UserError naming the version if it cannot be fetched or is no detector that this machine can run.
        """
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            return self.load_into(Path(folder), model, version, wanted or Wanted(), encoder)

    def load_into(
        self, folder: Path, model: str, version: int, wanted: Wanted, encoder: Encoder | None = None
    ) -> Loaded:
        """As `load`; the version's files are in `folder` afterwards, so that `fetched.load` does the same again."""
        self._fetch(folder, model, version, wanted)
        return fetched.load(folder, model, version, wanted, encoder, download_weights)

    def _fetch(self, folder: Path, model: str, version: int, wanted: Wanted) -> None:
        """Puts into `folder` all that `wanted` takes of the version, but for weights of encoders."""
        client = self._client
        try:
            source = client.get_model_version_download_uri(model, str(version)).rstrip("/")
            self._download(source, DETECTOR_FOLDER, folder)
        except Exception as error:  # every artefact store has its own kinds
            what_to_do = (
                f"make room on the disk of {folder}"
                if is_of_a_full_disk(error)
                else "check that its artefacts are still there and that this machine may read them, or point the alias "
                "to another version"
            )
            raise UserError(
                f"version {version} of {model} cannot be fetched ({_reason(error)}): {what_to_do}."
            ) from None
        signatures = [signature.SIGNATURE]
        tags = self._tags(model, version) if wanted.takes_exports else {}
        (folder / TAGS_FILE).write_text(json.dumps(tags))
        try:
            if export := fetched.chosen_export(tags, wanted, version):
                self._download_export(source, export, folder)
                signatures.append(export.signature)
        except UserError as error:
            raise UserError(f"version {version} of {model} cannot be loaded: {error}") from None
        for signed_by in signatures if wanted.verify_key else ():
            try:
                self._download(source, signed_by, folder)
            except Exception as error:  # every artefact store has its own kinds
                raise UserError(
                    f"version {version} of {model} has no signature ({_reason(error)}), and only what "
                    f"{wanted.verify_key} verifies is loaded: register it again with INPFORMER_SIGNING_KEY, or point "
                    "the alias to another version."
                ) from None

    def _tags(self, model: str, version: int) -> dict[str, str]:
        client = self._client
        try:
            return dict(client.get_model_version(model, str(version)).tags)
        except Exception as error:  # MLflow passes on what its database driver raises
            raise self._no_answer(error) from None

    def _download_export(self, source: str, export: fetched.Export, folder: Path) -> None:
        try:
            self._download(source, export.folder, folder)
        except Exception as error:  # every artefact store has its own kinds
            raise UserError(f"its export cannot be fetched ({_reason(error)}): export it again.") from None

    def _download(self, source: str, path: str, folder: Path) -> None:
        """A file or folder of a version, to the same place in `folder`."""
        place = (folder / path).parent
        place.mkdir(parents=True, exist_ok=True)
        mlflow.artifacts.download_artifacts(f"{source}/{path}", dst_path=str(place), tracking_uri=self._uri)

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


def is_of_a_full_disk(error: Exception) -> bool:
    """Whether a fetch failed as the disk was full: MLflow says so in the text alone."""
    return os.strerror(errno.ENOSPC) in str(error)


def download_weights(address: str, folder: Path) -> Path:
    """Weights of an encoder that lie in S3: MLflow's artefact client fetches them."""
    try:
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    except Exception as error:  # every artefact store has its own kinds
        raise UserError(
            f"the encoder's weights {address} cannot be fetched ({_reason(error)}): check AWS_ENDPOINT_URL and "
            "the keys, or name a file by --encoder-weights."
        ) from None


def _reason(error: Exception) -> str:
    """What a library says, cut down to fit the brackets in a sentence of ours."""
    if is_of_a_full_disk(error):  # stands further down
        return os.strerror(errno.ENOSPC)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Behind these words stands what the network said, before them the whole request.
    said = lines[0].rpartition("Caused by ")[2].rstrip(". )")[:200]
    return without_password(said)
