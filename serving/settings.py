"""What the application can be told, by `serve run`, by a Serve config file's `args` and by `python -m serving`."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from serving.keys import VARIABLE
from serving.webhook import webhook_secret


def default_tracking_uri() -> str:
    """MLflow's environment variable, or the database of a pipeline run in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def default_verify_key() -> str | None:
    """The file of the public key that versions must be signed by, if the environment names one."""
    named = os.environ.get("INPFORMER_VERIFY_KEY")
    return str(Path(named).absolute()) if named else None


def default_keys() -> str | None:
    """The file of clients' keys, if the environment names one."""
    named = os.environ.get(VARIABLE)
    return str(Path(named).absolute()) if named else None


def default_keep() -> str:
    """Where the environment says, or in the home folder of the serving machine's user."""
    return os.environ.get("INPFORMER_KEEP") or "~/.cache/inpformer"


class Settings(BaseModel):
    """`model`@`alias` in the registry at `tracking_uri`, looked up every `poll_seconds`.

    `encoder_weights` says where the encoder's weights lie on the serving machines, if not where they lay when the
    model was trained. `cpus` are booked for the model and are its torch threads; with `gpus`, which may be a fraction,
    it computes on the GPU that Ray gives it. With `verify_key`, the file of a public key on the serving machines, only
    versions that it verifies are loaded. With `webhook_secret`, from the environment, MLflow may say that an alias
    moved (see `serving.webhook`). `backend` computes; None is, on a CPU, the first of onnxruntime and openvino that the
    version has an export for, else torch. `precision` is that of the export, in bits, which then must be there; None
    is 32. In the folder `keep` of the serving machine the version that was loaded last is kept: it serves where the
    registry does not answer at the start. With `keys`, a file on the serving machines (see `serving.keyring`), only
    clients with one of them are answered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "inpformer"
    alias: str = "champion"
    tracking_uri: str = Field(default_factory=default_tracking_uri)
    poll_seconds: float = Field(5, gt=0)
    max_upload_mb: float = Field(16, gt=0)
    # An empty name, as of a shell variable that is not set, must not stand for "no key is asked for".
    encoder_weights: str | None = Field(None, min_length=1)
    backend: Literal["torch", "onnxruntime", "openvino", "tensorrt"] | None = None
    precision: Literal[32, 16, 8] | None = None
    verify_key: str | None = Field(default_factory=default_verify_key, min_length=1)
    keys: str | None = Field(default_factory=default_keys, min_length=1)
    keep: str = Field(default_factory=default_keep, min_length=1)
    cpus: int = Field(1, ge=1)
    gpus: float = Field(0, ge=0)
    webhook_secret: SecretStr = Field(default_factory=lambda: SecretStr(webhook_secret()))
