"""Makes a registered version again, from its commit, its data and its parameters, and compares the weights.

python -m pipelines.reproduce champion

The work is done in a git worktree, .reproduce/VERSION, with an MLflow database of its own, so that the registry does
not change; the images come by DVC's hash of them, from the cache or the remote. The exit code is 0 if all is equal, or
differs by no more than rounding does; else 1, and the worktree stays to be looked at.
"""

import argparse

from pipelines.platform import command, params


def main() -> None:
    """Reproduces a version and says how equal the two are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a version or an alias, such as champion")
    args = parser.parse_args()
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.reproduce.again import run

    run(args)


if __name__ == "__main__":
    command.run(main)
