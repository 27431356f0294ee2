"""How much memory a training takes on a GPU, told without one.

python -m benchmarks.memory dadf     # or another preset of a convolutional encoder: glcf

A step of each training of the preset's method is run on tensors that have a shape and no content, in bfloat16 as on a
GPU; what is alive at any moment is counted, and the optimiser's slots are added. Not counted are the CUDA context and
what PyTorch's allocator and cuDNN hold besides, 1 to 2 GiB in all.
"""

import argparse

from inpformer.config import require
from pipelines.platform import command


def main() -> None:
    """Prints a row a training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--batch", type=int, help="images of a step; the preset's where it is not given")
    args = parser.parse_args()
    require(args.batch is None or args.batch >= 1, "--batch", args.batch, "at least 1")
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.memory import measure

    measure.run(args.preset, args.batch)


if __name__ == "__main__":
    command.run(main)
