"""Does a method find more than another one does in the very same features?

python -m benchmarks.quality ../shared/data/magnetic_tile [--methods nearest inp_former:epochs=5]

A method's settings may follow its name: nearest:coreset_share=0.1,neighbours=3.
"""

import argparse
import tempfile
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a category in MVTec-AD layout")
    parser.add_argument("--methods", nargs="+", default=["nearest", "inp_former:epochs=5"])
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "inpformer-quality")
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.quality import compare

    compare.run(args.data, args.methods, args.store)


if __name__ == "__main__":
    command.run(main)
