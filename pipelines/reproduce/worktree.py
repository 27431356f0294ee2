"""A git worktree in which a pipeline runs again, beside the one that the user works in."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from inpformer.errors import UserError
from pipelines.manifest.table import read_manifest
from pipelines.platform.command import search_path
from pipelines.platform.params import PARAMS_FILE
from pipelines.platform.provenance import THREADS
from pipelines.reproduce.origin import Origin

PLACE = Path(".reproduce")
LOCAL_CONFIG = Path(".dvc/config.local")
MANIFEST, DETECTOR = Path("artifacts/manifest.parquet"), Path("artifacts/detector")


@contextmanager
def worktree(number: str, origin: Origin) -> Iterator[Path]:
    """Checks the commit out below PLACE, with the version's parameters; removes it again, but for failures.

    Raises UserError if the commit is not in this repository, and while another process has the version's worktree.
    """
    folder = (PLACE / number).resolve()
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process makes version {number} again, in {folder}: wait until it ends.") from None
        yield from _checked_out(folder, origin)


def _checked_out(folder: Path, origin: Origin) -> Iterator[Path]:
    _remove(folder)
    _git("worktree", "add", "--quiet", "--detach", str(folder), origin.commit)
    params = origin.params
    if origin.outside:
        params = params | {"manifest": params["manifest"] | {"data": str(origin.data.resolve())}}
    (folder / PARAMS_FILE).write_text(yaml.safe_dump(params))
    yield folder
    _remove(folder)


def fetch_data(folder: Path, origin: Origin) -> None:
    """Brings the images into the worktree, by DVC's hash of them: out of the cache of this checkout, or of the remote.

    Images outside the repository are taken from where they lie. Raises UserError if nobody has them.
    """
    if LOCAL_CONFIG.is_file():
        shutil.copy(LOCAL_CONFIG, folder / LOCAL_CONFIG)  # where the remote is, and its keys
    if not (origin.outside or _is_made(folder, origin.data.as_posix())):
        _check_out(folder, origin)
    # The stages get a cache of their own: what they leave in one, ids of runs among it, DVC would take for this
    # checkout's.
    _use_cache(folder, folder / ".dvc/cache")


def _check_out(folder: Path, origin: Origin) -> None:
    pointer = folder / f"{origin.data}.dvc"
    if origin.known:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(yaml.safe_dump({"outs": [{**origin.known, "path": pointer.stem}]}))
    if not pointer.is_file():
        raise UserError(f"neither DVC nor the version knows {origin.data} by a hash: its images are not found again.")
    _use_cache(folder, Path(run(["dvc", "cache", "dir"], Path.cwd(), quiet=True).strip()))
    try:
        run(["dvc", "checkout", str(pointer.relative_to(folder))], folder, quiet=True)
    except UserError:
        run(["dvc", "pull", str(pointer.relative_to(folder))], folder)


def _use_cache(folder: Path, cache: Path) -> None:
    run(["dvc", "cache", "dir", "--local", str(cache)], folder, quiet=True)


def _is_made(folder: Path, data: str) -> bool:
    """Whether a stage of that commit makes the images, as the demo's does."""
    file = folder / "data/dvc.yaml"
    stages = yaml.safe_load(file.read_text())["stages"] if file.is_file() else {}
    return any(data in stage.get("outs", ()) for stage in stages.values())


def train_again(folder: Path, origin: Origin) -> None:
    """Runs all stages up to the detector, whatever DVC's cache holds of them, with an MLflow database of their own.

    Raises UserError if a stage fails, and for other images than the version's.
    """
    run(["dvc", "repro", "--force", "--no-run-cache", "calibrate"], folder, variables={THREADS: origin.threads})
    if read_manifest(folder / MANIFEST).digest != origin.digest:
        raise UserError(f"the images in {origin.data} are not those that the version was made of: bring these back.")


def run(
    command: list[str], folder: Path, quiet: bool = False, variables: Mapping[str, str | None] | None = None
) -> str:
    """A command of this environment in the worktree, with these variables set, or unset for None; returns what it
    printed, or shows it. Raises UserError if it fails.
    """
    variables = variables or {}
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    environment |= {name: value for name, value in variables.items() if value is not None}
    environment["PYTHONPATH"] = str(folder)
    environment["PATH"] = search_path()
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    environment.pop("RAY_ADDRESS", None)  # a cluster has other code
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=quiet, text=True, check=False)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-1:] if quiet else []
        raise UserError(f"`{' '.join(command)}` failed in {folder}{''.join(f' ({line})' for line in said)}: see there.")
    return done.stdout or ""


def _remove(folder: Path) -> None:
    if folder.exists():
        _git("worktree", "remove", "--force", str(folder))
    _git("worktree", "prune")


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"`git {' '.join(arguments)}` failed ({reason}): fetch the commit into this repository.")
