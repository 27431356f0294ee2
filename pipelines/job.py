"""The pipeline as a Ray job, or some of its stages: data comes from the DVC remote and results go there.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m pipelines.job [--commit SHA] [STAGE ...]

A job's working directory holds the code and DVC's files only: no git, no data, no cache. What is finished is pushed
however the job ends, with DVC's run cache: submitted again, the job goes on there, and `dvc repro --pull` on one's own
machine fetches the results instead of computing them.
"""

import argparse
import os
import subprocess
from pathlib import Path

from inpformer.errors import UserError
from pipelines.platform import command
from pipelines.platform.provenance import COMMIT_VARIABLE


def check_remote() -> None:
    """Raises UserError without a default remote: a job that computes for hours could not hand anything back."""
    done = subprocess.run(["dvc", "config", "core.remote"], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise UserError(
            "DVC has no default remote, so the job could not hand back what it computes: "
            "`dvc remote add --default store s3://BUCKET/PREFIX`, then submit again."
        )


def dvc(*arguments: str) -> int:
    """Runs a DVC command; returns its exit code. Interrupted, it waits for DVC, which the signal reached as well."""
    process = subprocess.Popen(["dvc", *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def main() -> None:
    """Pulls, reproduces, pushes. Raises UserError if a stage fails or the results cannot be pushed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", metavar="STAGE", nargs="*", help="default: the whole pipeline")
    parser.add_argument("--commit", help="what is submitted, for the record: `git rev-parse HEAD`")
    args = parser.parse_args()
    check_remote()
    if args.commit:
        os.environ[COMMIT_VARIABLE] = args.commit
    if not Path(".git").exists():
        dvc("config", "--quiet", "--local", "core.no_scm", "true")
    try:
        failed = dvc("repro", "--pull", *args.stages)
    finally:
        kept = dvc("push", "--run-cache")
    if failed:
        raise UserError("the pipeline did not finish, see above: mend that and submit the job again.")
    if kept:
        raise UserError("the results could not be pushed to the DVC remote, see above: submit the job again.")


if __name__ == "__main__":
    command.run(main)
