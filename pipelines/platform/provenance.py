"""Where a result comes from: the commit and what differs from it, the parameters, the job."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from pipelines.platform.params import read_all
from pipelines.platform.ray_address import JOB_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
# Where there is no repository, as in a job's working directory.
COMMIT_VARIABLE = "INPFORMER_COMMIT"
LOCK_FILE = Path("dvc.lock")
# How many threads sum up, and so in which order: null for as many as the machine has cores.
THREADS = "OMP_NUM_THREADS"
# How many files a sentence names.
NAMED = 8
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


def uncommitted() -> list[str] | None:
    """The tracked files that differ from the commit and are no output of the pipeline; None outside a repository."""
    if not _git("rev-parse", "HEAD"):
        return None
    changed = _git("diff", "--name-only", "-z", "--relative", "HEAD", "--", ".", *(f":!{p}" for p in OWN_OUTPUTS))
    return [name for name in changed.split("\0") if name]


def ray_job() -> str:
    """The id that `ray job submit` gave the job that this is part of, or "none"."""
    config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return str(config.get("metadata", {}).get("job_submission_id", "none"))


def params_digest() -> str:
    """sha256 (hex) of all parameters."""
    return hashlib.sha256(json.dumps(read_all(), sort_keys=True).encode()).hexdigest()


def code_tags() -> dict[str, str]:
    """Which code it was: the commit, and whether and in which files it differs from that."""
    changed = uncommitted()
    tags = {"git.commit": git_commit(), "git.dirty": "unknown" if changed is None else str(bool(changed)).lower()}
    return tags | ({"git.uncommitted": listed(changed)} if changed else {})


def tags() -> dict[str, str]:
    """What marks an MLflow run: its code, hash of the parameters, Ray job id."""
    return {**code_tags(), "params.sha256": params_digest(), "ray.job": ray_job()}


def code() -> str:
    """The code in words."""
    commit, changed = git_commit(), uncommitted()
    if changed:
        return f"code {commit[:12]}, and changes that are not committed in {listed(changed)}"
    return f"code {commit[:12]}" + (", whether it was changed is not known" if changed is None else "")


def listed(names: list[str]) -> str:
    """A few of the names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
