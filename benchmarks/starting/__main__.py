"""How long people wait before any work is done: help, a pipeline that has nothing to do, a promotion, imports.

python -m benchmarks.starting [--demo]

Run it where `dvc repro` has run. With --demo it runs the whole demo first, and says where its time goes.
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true", help="run the demo, and time its parts")
    args = parser.parse_args()
    from benchmarks.starting.measure import run

    run(args)


if __name__ == "__main__":
    command.run(main)
