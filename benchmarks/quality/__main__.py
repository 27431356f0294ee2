"""Does a method find more than another one does in the very same features?

python -m benchmarks.quality ../shared/data/cookie [--methods nearest inp_former:epochs=5 patchcore] [--seeds 1 2 3]

A method's settings may follow its name: nearest:coreset_share=0.1,neighbours=3. Whoever chooses settings judges the
held-out good images against five kinds of pseudo-anomalies of them, and with --real against ten real defects a
category. These, and all test images of the same parts, are never judged with --test, which is for afterwards. "missed"
is the share of defective pictures below the threshold that promises 5 % false alarms, or as few as the held-out parts
allow. Several categories are one model's, and the figures are means over them.
"""

import argparse
import tempfile
from pathlib import Path

from pipelines.platform import command


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a category in MVTec-AD layout, or a folder of them")
    parser.add_argument("--methods", nargs="+", default=["nearest", "inp_former:epochs=10", "patchcore"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    judged = parser.add_mutually_exclusive_group()
    judged.add_argument("--real", action="store_const", dest="judged", const="real", default="pseudo")
    judged.add_argument("--test", action="store_const", dest="judged", const="test")
    parser.add_argument("--share", type=int, default=1, help="one of so many training images")
    parser.add_argument("--size", type=int, default=256, help="pixels that the encoder sees")
    parser.add_argument("--levels", nargs="+", type=int, default=[8, 16], help="strides of the encoder")
    parser.add_argument("--part", help="a regular expression whose first group names the part, as manifest.part")
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "inpformer-quality")
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    from benchmarks.quality import compare
    from inpformer.encoders.settings import EncoderSettings

    encoder = EncoderSettings(resize=args.size, crop=args.size, levels=tuple(args.levels))
    compare.run(args.data, args.methods, args.store, encoder, args.seeds, args.part, args.judged, args.share)


if __name__ == "__main__":
    command.run(main)
