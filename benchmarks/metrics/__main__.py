"""Our pixel metrics against anomalib's, on the same maps in the same process.

python -m benchmarks.metrics [--images 1000] [--aupimo-images 100]

anomalib is no dependency of the project. In an environment of its own: `pip install anomalib`, then run this module
there from the repository's root; of the repository it needs numpy and scipy only. The maps are smooth noise; in 30 % of
the images one to three blobs stand out, more or less. AUPIMO has fewer images because anomalib's holds four 64-bit
counts for every image and each of its 300 000 thresholds.
"""

import argparse
from importlib.util import find_spec

from inpformer.errors import UserError
from pipelines.platform import command


def main() -> None:
    """Prints times, ratios and differences. Raises UserError without anomalib."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--aupimo-images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if find_spec("anomalib") is None:
        raise UserError("anomalib is not installed here: run this in an environment that has it.")
    # Not at the top: anomalib takes longer to load than arguments to be refused.
    from benchmarks.metrics import measure

    measure.run(args.images, args.aupimo_images, args.seed)


if __name__ == "__main__":
    command.run(main)
