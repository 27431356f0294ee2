"""Brings images from S3: python -m pipelines.fetch visa | s3://bucket/archive.tar | s3://bucket/prefix

An archive is unpacked, the objects under a prefix become a tree of files. Interrupted, the same command goes on.
"""

import argparse
import re
from pathlib import Path

from inpformer.errors import UserError
from pipelines.platform import command


def main() -> None:
    """Fetches what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="visa, s3://bucket/archive (.tar, .tar.gz, .tgz, .zip) or s3://bucket/prefix")
    parser.add_argument("--out", type=Path, help="the folder to make; by default data/<name>")
    parser.add_argument("--sha256", help="the digest (hex) that the archive must have")
    parser.add_argument("--keep", action="store_true", help="leave the archive beside the folder")
    args = parser.parse_args()
    if args.sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", args.sha256):
        raise UserError(f"--sha256 is {args.sha256!r}: it must be 64 hexadecimal digits.")
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.fetch.source import run

    run(args)


if __name__ == "__main__":
    command.run(main)
