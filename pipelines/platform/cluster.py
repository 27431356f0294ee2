"""The Ray cluster that a stage runs on: reached, started, measured, and its failures put in a sentence."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Otherwise Ray prints every line of a worker twice.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
# Lines of two trainings that are alike but for numbers are not the same line.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
# Where a node died, Ray may ask once more for workers on it: then it is not to wait for them for a minute.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")

import ray
import ray.train
from ray._private.state import available_resources_per_node

from inpformer.errors import UserError
from pipelines.platform import ray_address

# An elastic run looks so often (seconds) whether nodes have come that it could use.
RESIZE_SECONDS = 60.0


@contextmanager
def cluster() -> Iterator[None]:
    """The Ray cluster of RAY_ADDRESS, or one on this machine for as long as it is needed.

    Raises UserError if it cannot be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start()
    else:
        _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    # Nobody preempts the machine one sits at.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    try:
        with _own_address():
            ray.init(address="local", logging_level=logging.ERROR)
    except Exception as error:  # a node that does not start within Ray's 30 seconds raises just that
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"Ray does not start on this machine ({reason}): try again.") from None


@contextmanager
def _own_address() -> Iterator[None]:
    """Has a Ray that starts inside tell its processes where it is. Without that some of them, such as Ray Train's
    cleaner, look for a Ray on this machine, and where there are others they find the wrong one.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    own = {"RAY_GCS_SERVER_PORT": port, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _connect(address: str) -> None:
    ray_address.check(address)
    try:
        ray.init(address=address, runtime_env=ray_address.runtime_env(), logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:  # Ray exits by itself where something else than Ray answers
        raise ray_address.explained(address, error) from None


def scaling(num_workers: int | tuple[int, int]) -> ray.train.ScalingConfig:
    """One GPU a worker if the cluster has that many, else an equal share of the CPUs of one machine. A pair is the
    fewest and the most workers of an elastic run.

    Raises UserError if the cluster has fewer CPUs than workers.
    """
    total = {kind: int(count) for kind, count in ray.cluster_resources().items()}
    fewest, most = (num_workers, num_workers) if isinstance(num_workers, int) else num_workers
    options: dict[str, Any] = {"num_workers": num_workers, "elastic_resize_monitor_interval_s": RESIZE_SECONDS}
    if total.get("GPU", 0) >= fewest:
        return ray.train.ScalingConfig(use_gpu=True, **options)
    if total.get("CPU", 0) < fewest:
        raise UserError(f"params.yaml: train.num_workers is {num_workers}: the cluster has {total.get('CPU', 0)} CPUs.")
    workers = min(most, total["CPU"])
    # What is free: the process of a job may hold some itself. All of it if too little is, as it may be free soon.
    machines = [int(free.get("CPU", 0)) for free in available_resources_per_node().values()]
    if sum(machines) < workers:
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    # The largest with which all find a place: a worker's CPUs are of one machine.
    share = next(n for n in range(max(machines), 0, -1) if sum(cpus // n for cpus in machines) >= workers)
    return ray.train.ScalingConfig(resources_per_worker={"CPU": share}, **options)


def gpus_a_model() -> int:
    """How many GPUs a model trained by a task of its own gets: one, where the cluster has any."""
    return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0


def failure(what: str, error: BaseException) -> UserError:
    """What to tell a person of a training that Ray gave up."""
    cause = _cause(error)
    if isinstance(cause, UserError):
        return cause
    # Ray wraps what a worker raised; the last line says what happened.
    lines = str(cause).strip().splitlines()
    return UserError(
        f"{what} failed: {lines[-1] if lines else type(cause).__name__}. Run the same command again to go on from what "
        "is finished; Ray's own logs are under /tmp/ray/session_latest."
    )


def _cause(error: BaseException) -> BaseException:
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    # If one worker fails, the others only say that it is gone.
    causes = [getattr(failure, "cause", None) or failure.__cause__ or failure for failure in failures.values()]
    told = [cause for cause in causes if isinstance(cause, UserError)]
    return (told or causes or [getattr(error, "cause", None) or error])[0]
