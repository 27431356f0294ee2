"""Where a result comes from: the commit, and what DVC wrote down of its inputs."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import yaml

from pipelines.platform.params import read_all
from pipelines.platform.ray_address import JOB_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
LOCK_FILE = Path("dvc.lock")
# Where there is no repository, as in a job's working directory.
COMMIT_VARIABLE = "INPFORMER_COMMIT"
# Written by the pipeline itself while it runs: a change there is not a change of the code.
OWN_OUTPUTS = ("dvc.lock", "reports", "artifacts", "data")


def git_commit() -> str:
    """The commit that is checked out; outside a repository the one that a job was submitted with, or "none"."""
    return _git("rev-parse", "HEAD") or os.environ.get(COMMIT_VARIABLE, "none")


def source_digest(*rooms: str) -> str:
    """sha256 (hex) of the code in some folders, named from the root of the repository: equal whatever the commit, as
    long as the code is the same.
    """
    digest = hashlib.sha256()
    for file in sorted(file for room in rooms for file in (ROOT / room).rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def git_dirty() -> str:
    """Whether a tracked file that is no output of the pipeline differs from the commit: "true", "false", "unknown"."""
    if not _git("rev-parse", "HEAD"):
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{p}" for p in OWN_OUTPUTS))
    return str(bool(changed)).lower()


def ray_job() -> str:
    """The id that `ray job submit` gave the job that this is part of, or "none"."""
    config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return str(config.get("metadata", {}).get("job_submission_id", "none"))


def tags() -> dict[str, str]:
    """What marks an MLflow run or version: commit, dirty flag, hash of the parameters, Ray job id."""
    params = json.dumps(read_all(), sort_keys=True)
    return {
        "git.commit": git_commit(),
        "git.dirty": git_dirty(),
        "params.sha256": hashlib.sha256(params.encode()).hexdigest(),
        "ray.job": ray_job(),
    }


def locked_hashes() -> dict[str, str]:
    """DVC's hash of every dependency and output that dvc.lock names, as tags; empty before the first run."""
    if not LOCK_FILE.exists():
        return {}
    stages = yaml.safe_load(LOCK_FILE.read_text()).get("stages", {})
    entries = [entry for stage in stages.values() for entry in (*stage.get("deps", []), *stage.get("outs", []))]
    return {f"dvc.{entry['path']}": entry["md5"] for entry in entries if not entry["path"].endswith(".py")}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
