"""The Ray cluster that a stage runs on: reached, started, measured, and its failures put in a sentence."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Otherwise Ray prints every line of a worker twice.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")

import ray
import ray.train

from inpformer.errors import UserError
from pipelines import ray_address


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
        ray.init(address="local", logging_level=logging.ERROR)
    except Exception as error:  # a node that does not start within Ray's 30 seconds raises just that
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"Ray does not start on this machine ({reason}): try again.") from None


def _connect(address: str) -> None:
    ray_address.check(address)
    try:
        ray.init(address=address, runtime_env=ray_address.runtime_env(), logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:  # Ray exits by itself where something else than Ray answers
        raise ray_address.explained(address, error) from None


def scaling(num_workers: int) -> ray.train.ScalingConfig:
    """One GPU a worker if the cluster has that many, else an equal share of the CPUs of one machine.

    Raises UserError if the cluster has fewer CPUs than workers.
    """
    total = ray.cluster_resources()
    if total.get("GPU", 0) >= num_workers:
        return ray.train.ScalingConfig(num_workers=num_workers, use_gpu=True)
    if total.get("CPU", 0) < num_workers:
        raise UserError(
            f"params.yaml: train.num_workers is {num_workers}: the cluster has {int(total.get('CPU', 0))} CPUs."
        )
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    # The largest with which all find a place: a worker's CPUs are of one machine.
    share = next(n for n in range(max(machines), 0, -1) if sum(cpus // n for cpus in machines) >= num_workers)
    return ray.train.ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": share})


def gpus_a_model() -> int:
    """How many GPUs a model trained by a task of its own gets: one, where the cluster has any."""
    return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0


def cause(error: BaseException) -> str:
    """What went wrong in a worker, in its own words."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    for rank, failure in failures.items():
        # Ray wraps what a worker raised; the first line that is not Ray's own says what happened.
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        message = str(cause).strip().splitlines()
        return f"worker {rank}: {message[-1] if message else type(cause).__name__}"
    return str(error).strip().splitlines()[-1]
