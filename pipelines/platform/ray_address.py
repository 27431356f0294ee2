"""A Ray cluster named by RAY_ADDRESS: what a driver sends along to it, and in words why it cannot be used."""

import os
import socket
from pathlib import Path
from typing import Any

import inpformer
from inpformer.errors import UserError

# Set by Ray for the command of a submitted job.
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# What workers need and is no secret; keys and passwords they have from their nodes' own environment.
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL")
CONNECT_SECONDS = 5
INSTEAD = (
    "name the head of a cluster that this machine belongs to (HOST:6379), or submit a job from anywhere: "
    "`ray job submit --address http://HOST:8265 --working-dir . -- python -m pipelines.job`."
)


def is_set() -> bool:
    """Whether RAY_ADDRESS names a cluster; Ray on this machine alone is none."""
    return (os.environ.get("RAY_ADDRESS") or "local") != "local"


def check(address: str) -> None:
    """Raises UserError if nothing that a driver can use answers at `address`: Ray itself would try for minutes."""
    if address.startswith(("http://", "https://")):
        raise UserError(f"RAY_ADDRESS is {address}, which takes jobs, not drivers: {INSTEAD}")
    if address.startswith("ray://"):
        raise UserError(f"RAY_ADDRESS is {address}, and Ray Client cannot train: {INSTEAD}")
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS is {address}, where no Ray answers ({error}): correct or unset it.") from None


def runtime_env() -> dict[str, Any]:
    """Our code and the addresses of S3, for workers that have neither. A job brings its own working directory."""
    if JOB_VARIABLE in os.environ:
        return {}
    packages = Path(__file__).parents[1], Path(str(inpformer.__file__)).parent
    return {
        "py_modules": [str(package) for package in packages],
        "env_vars": {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)},
    }


def explained(address: str, error: BaseException) -> UserError:
    """The sentence for what `ray.init` raised at an address where something answers."""
    reason = " ".join(str(error).split())
    if "Version mismatch" in reason:
        return UserError(
            f"Ray at {address} has other versions ({reason.partition('Version mismatch: ')[2]}): "
            "install the same Python and Ray here, or submit a job."
        )
    if "No node info found" in str(error.__cause__):
        return UserError(f"this machine does not belong to the Ray cluster at {address}: {INSTEAD}")
    if "authentication token" in reason:
        reason = "it wants a token and there is none"
    return UserError(
        f"Ray at {address} does not let this process in ({reason}): set RAY_AUTH_MODE=token and the cluster's token "
        "in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, and check RAY_ADDRESS."
    )
