"""Renders the demo data set: three made-up products in the layout of MVTec AD, with four kinds of defect each; or, with
--logical, trays of parts in the layout of MVTec LOCO AD, with logical defects and structural ones.

Run as `python -m demo.data --out data/demo` or `python -m demo.data --logical --out data/logical`; it reads the section
`demo_data` of params.yaml.
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
    parser.add_argument("--logical", action="store_true", help="trays of parts, with logical defects")
    args = parser.parse_args()
    settings = read_section("demo_data", DemoData)
    with command.importing():
        from demo.data import logical, render

    (logical if args.logical else render).generate(settings, args.out)


if __name__ == "__main__":
    command.run(main)
