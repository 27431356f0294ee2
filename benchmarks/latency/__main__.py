"""How long a part takes, from the bytes of its picture to the decision, by method, backend, bits, threads and batch.

python -m benchmarks.latency [--methods inp_former nearest] [--threads 1 2] [--batches 1 8 16] [--images 30]

The bundled encoder at the demo's size, weights as they begin. All cases take turns, an image of each at a time, so that
whatever else the machine does slows all alike: compare what stands in one table. The parts of the time are measured in
the same run: decode, resize, encoder, trained part with its map, score and regions. With a GPU, its rows too.
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["inp_former", "inp_former_pp", "nearest"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--images", type=int, default=30, help="a case (default: 30)")
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.latency.measure import run

    run(args.methods, args.threads, args.batches, args.images)


if __name__ == "__main__":
    command.run(main)
