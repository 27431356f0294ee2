"""Promotion: moves @champion, the version that serves, to another version; the old one becomes @previous.

python -m pipelines.promote              # the challenger becomes champion
python -m pipelines.promote previous     # back to the one before
python -m pipelines.promote 7            # any version

A version whose false-alarm rate did not hold on the good test images is refused, unless you accept that.
"""

import argparse

from pipelines.platform import command
from pipelines.platform.aliases import CHALLENGER


def main() -> None:
    """Promotes and says what serves now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", default=CHALLENGER, help="a version or an alias (default: challenger)")
    parser.add_argument(
        "--accept-broken-promise",
        action="store_true",
        help="promote also where the false-alarm rate did not hold on the test images; noted on the version",
    )
    args = parser.parse_args()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    from pipelines.promote.aliases import run

    run(args)


if __name__ == "__main__":
    command.run(main)
