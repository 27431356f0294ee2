"""Where the time of a training step goes, and what could make it shorter.

python -m benchmarks.training [--device cpu|cuda] [--steps 20]

INP-Former at its default sizes learns from made-up stored features (bundled encoder at 320 pixels, strides 8 and 16,
grid 16, batch 16). An epoch of so many steps is run as it is, then under torch's profiler, whose times by phase and by
operator are printed as shares of a step. What is read ahead costs only what the loop waits for it. On a GPU each phase
is waited for, so that it has its own time: the profiled epoch is slower than the other.

Then alternatives are run in turn with what is done: StableAdamW tensor by tensor against all tensors at once (of
this network and of the paper's), and the network compiled, with the steps after which its compilation is paid back.
"""

import argparse

from inpformer.config import require
from pipelines.platform import command


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=20, help="of an epoch, and of each side of a comparison")
    args = parser.parse_args()
    require(args.steps >= 1, "--steps", args.steps, "at least 1")
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.training import measure

    measure.run(args.device, args.steps)


if __name__ == "__main__":
    command.run(main)
