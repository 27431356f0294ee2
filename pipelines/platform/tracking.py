"""How MLflow is reached: its address, its client, the patience with a server that is down, and what to say then.

The server is MLFLOW_TRACKING_URI's, by default the file mlflow.db in the working directory.
"""

import logging
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

# The waiting is done here: a request that MLflow repeats by itself may have been heard the first time.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE, ErrorCode
from requests.exceptions import RequestException
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

from inpformer.errors import UserError, without_password
from pipelines.platform import moved

# Its notes on the making of tables are not for a reader of the pipeline's output.
logging.getLogger("mlflow").setLevel(logging.WARNING)

EXPERIMENT = "inpformer"
# How long (seconds) a server may be away: at the start its address may be wrong, later it was right.
PATIENCE_AT_START, PATIENCE = 20.0, 120.0
LONGEST_PAUSE = 8.0
MAY_PASS = {ErrorCode.Name(code) for code in (INTERNAL_ERROR, REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE)}
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"

P = ParamSpec("P")
R = TypeVar("R")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or SQLite in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def shown_uri() -> str:
    """`tracking_uri` as people may see it."""
    return without_password(tracking_uri())


def reaching_mlflow(function: Callable[P, R]) -> Callable[P, R]:
    """Waits for a server that is down, as long as the run has patience, and puts every failure into one sentence.
    What is wrapped may be done twice, as an answer may be lost: it must leave what once would.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        patience = getattr(args[0], "patience", PATIENCE_AT_START) if args else PATIENCE_AT_START

        def tell(state: RetryCallState) -> None:
            if state.attempt_number == 1:
                print(f"MLflow at {shown_uri()} does not answer: trying for {patience:.0f} seconds.", file=sys.stderr)
                sys.stderr.flush()

        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_before_delay(patience),
            wait=wait_exponential(max=LONGEST_PAUSE),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(function, *args, **kwargs)
        except Exception as error:
            if not isinstance(error, _failures()):
                raise
            raise _explained(error) from None

    return call


def _failures() -> tuple[type[Exception], ...]:
    """What a failing MLflow, its database and its artefact store raise. Imported only when something did."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from google.protobuf.json_format import Error as AnswerError  # JSON, but no answer of MLflow's
    from sqlalchemy.exc import SQLAlchemyError

    of_stores = (SQLAlchemyError, OSError, Boto3Error, BotoCoreError, ClientError)
    return (MlflowException, RequestException, AnswerError, *of_stores)


def _may_pass(error: BaseException) -> bool:
    """Whether waiting may help."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, MlflowException):
        return error.error_code in MAY_PASS and not tracking_uri().startswith("sqlite:")
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    if isinstance(error, Boto3Error):  # of an upload; what it was, stands behind it
        return isinstance(error.__context__, Exception) and _may_pass(error.__context__)
    return isinstance(error, RequestException | ConnectionError | HTTPClientError)


def _explained(error: Exception) -> UserError:
    reason = without_password((str(error).strip() or repr(error)).splitlines()[0][:300])
    if is_absent(error):
        return UserError(
            f"MLflow at {shown_uri()} does not know what is asked for ({reason}): set MLFLOW_TRACKING_URI to the one "
            "that does."
        )
    return UserError(
        f"MLflow at {shown_uri()} did not do its part ({reason}): check that the server and its artefact store are up "
        "and MLFLOW_TRACKING_URI is right, then run again."
    )


def is_absent(error: Exception) -> bool:
    """Whether MLflow answered that there is no such run, model, version or alias."""
    return isinstance(error, MlflowException) and error.error_code == NOT_THERE


@reaching_mlflow
def client(uri: str | None = None) -> MlflowClient:
    """A client of the server at `uri`, by default ours. A local database that moved is corrected first."""
    if (database := _database(uri or tracking_uri())) is not None:
        moved.follow(database, EXPERIMENT)
    return MlflowClient(uri or tracking_uri())


def experiment_id(of: MlflowClient, name: str = EXPERIMENT) -> str:
    """The id of an experiment of ours, which is made if it is not there."""
    if (experiment := of.get_experiment_by_name(name)) is not None:
        return str(experiment.experiment_id)
    # A server chooses its own artefact store; those of a local database lie beside it.
    database = _database(tracking_uri())
    place = moved.artifacts_beside(database).as_uri() if database else None
    try:
        return str(of.create_experiment(name, place))
    except MlflowException:  # somebody else made it meanwhile
        if (experiment := of.get_experiment_by_name(name)) is None:
            raise
        return str(experiment.experiment_id)


def _database(uri: str) -> Path | None:
    """The file of a local database."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def allowed(name: str) -> str:
    """A name as MLflow takes it: a category or a path may hold any character."""
    return re.sub(r"[^\w\-. /:]", "_", name)
