"""Renders the demo data set: three made-up products in the layout of MVTec AD, with four kinds of defect each.

Run as `python -m demo.data --out data/demo`; it reads the section `demo_data` of params.yaml.
"""

import argparse
from pathlib import Path

from demo.settings import DemoData
from pipelines.platform import command
from pipelines.platform.params import read_section


def main() -> None:
    """Reads the command line and params.yaml, and renders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, for example data/demo")
    args = parser.parse_args()
    settings = read_section("demo_data", DemoData)
    with command.importing():
        from demo.data.render import generate

    generate(settings, args.out)


if __name__ == "__main__":
    command.run(main)
