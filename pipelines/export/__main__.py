"""A registered version as files for a runtime, with the proof that they decide as it does.

python -m pipelines.export champion --backend onnxruntime
python -m pipelines.export 3 --backend openvino --precision 16 --out line-4
python -m pipelines.export champion --backend onnxruntime --precision 8

All held-out and test images that the version keeps a list of are judged by PyTorch and by the export. One decision that
differs, or a score or a map that is further off than the tolerance, refuses the export, and a page shows the images.
One of 8 bits has thresholds of its own, made anew from the held-out images, and is refused if it measures worse on the
test images than PyTorch by more than a margin of `promote`.

What passes becomes part of the version: `python -m pipelines.audit verify` covers it, and `python -m serving` uses it
on a CPU. The folder runs without this project, by the run.py in it: `python run.py IMAGE`.
"""

import argparse
from pathlib import Path

from inpformer.backends.names import PRECISIONS, RUNTIMES, TENSORRT
from inpformer.errors import UserError
from pipelines.platform import command, params


def main() -> None:
    """Exits 1 where the export is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a version or an alias, such as champion")
    parser.add_argument("--backend", required=True, choices=RUNTIMES)
    parser.add_argument("--precision", type=int, choices=PRECISIONS, default=32, help="bits a weight (default: 32)")
    parser.add_argument(
        "--out", type=Path, help="the folder, replaced if it is an export (default: exports/MODEL-VERSION-BACKEND-BITS)"
    )
    args = parser.parse_args()
    if (args.backend, args.precision) == (TENSORRT, 8):
        raise UserError("--precision 8 is for onnxruntime and openvino: TensorRT takes 8 bits of another form.")
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.export.version import run

    run(args)


if __name__ == "__main__":
    command.run(main)
