"""What does the service cost beside the bare detector, on the same cores?

python -m benchmarks.serving [--clients 1 4 16 64] [--seconds 20] [--peer]
python -m benchmarks.serving --faults
python -m benchmarks.serving --promotions [--seconds 60]
python -m benchmarks.serving --hostile 10000 [--seed 0] [--seconds 60]
python -m benchmarks.serving --many 100000

The bundled encoder at the demo's size, weights as they begin. `python -m serving` on loopback, asked by so many clients
that each wait for their answer, then at 70 % of its throughput by clients that do not (open loop: a picture is late
from the time at which it was due). Between these the bare loop decodes, predicts and decides with as many threads as
the service has: compare within one table. Every answer's score is compared with the bare loop's.
--peer serves the same detector by LitServe too, where that is installed.
--faults kills a replica of the model, the ingress and the proxy, one after the other, while the registry is away.
--promotions moves the champion twice and back at 80 % of what the service can do.
--hostile sends so many requests that are broken or bombs, a good one among 22, then has slow clients for --seconds.
--many sends so many good pictures to a small detector, and looks at the memory after each tenth.
"""

import argparse

from pipelines.platform import command


def main() -> None:
    """Prints the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20, help="a row (default: %(default)g)")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--promotions", action="store_true")
    parser.add_argument("--hostile", type=int, metavar="COUNT")
    parser.add_argument("--many", type=int, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=0, help="of --hostile (default: %(default)s)")
    args = parser.parse_args()
    if min([*args.clients, *(one for one in (args.hostile, args.many) if one is not None)]) < 1 or not args.seconds > 0:
        parser.error("--clients, --hostile and --many must be at least 1, --seconds above 0")
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.serving import faults, hostile, many, measure, peer, promotions

    if args.hostile:
        measure.with_detector(
            lambda folder, detector, content: hostile.run(folder, detector, args.hostile, args.seed, args.seconds)
        )
    elif args.many:
        many.run(args.many)
    elif args.promotions:
        promotions.run(args.seconds)
    elif args.faults:
        measure.with_detector(faults.run)
    else:
        if args.peer:
            peer.check_installed()
        measure.run(args.clients, args.seconds, peer.served_by_peer if args.peer else None)


if __name__ == "__main__":
    command.run(main)
