"""How training scales: two workers against one, and what a GPU makes of encoder and trained part.

python -m benchmarks.scaling [--steps 8] [--pairs 3] [--peak-tflops 989]

Workers: processes of one thread each share every batch of features from a store, as in a training, with gloo; the
two cases are run in turn, and the efficiency is half the ratio of their speeds. GPU, when there is one: ViT-B/14 at
448/392 pixels with random weights (speed does not depend on them): images/s of the encoder, and of the trained part
step time, memory and model FLOPs utilisation, the share that the step's counted operations have of the peak.
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="of the epoch that is timed")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, default=989, help="of the GPU, bfloat16, dense (H100 SXM: 989)")
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.scaling import measure

    measure.run(args.steps, args.pairs, args.peak_tflops)


if __name__ == "__main__":
    command.run(main)
