"""How often the gate is wrong: two models, whose true difference is known, weighed on many random test sets.

python -m benchmarks.promotion [--draws 1000] [--margin 0.05]

"promoted" is the share of test sets on which a model that is worse by exactly the margin is shown to be worse by less:
5 % is stated. "called better" is the share on which one of two equal models is called better by one of five measures:
1 % a measure, 5 % in all are stated. The last table is how often a model that is truly equal, or better, gets through.
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="test sets a line")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--margin", type=float, default=0.05)
    args = parser.parse_args()
    # Not at the top: scipy takes longer to load than arguments to be refused.
    from benchmarks.promotion import tables

    tables.run(args.draws, args.replicates, args.margin)


if __name__ == "__main__":
    command.run(main)
