"""The demo: from nothing to a served decision. Runs the pipeline, promotes, serves, asks, draws, stops.

python -m demo

Its last line is one JSON object; the overlay picture lies in demo-out/overlay.png.
"""

import argparse

from pipelines.platform import command, params


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from demo.walk import walk

    walk()


if __name__ == "__main__":
    command.run(main)
