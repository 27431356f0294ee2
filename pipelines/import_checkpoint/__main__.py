"""Brings the authors' checkpoint (model.pth: DINOv2 encoder and INP-Former in one state dict) into the registry.

python -m pipelines.import_checkpoint model.pth --setting multi-class --categories bottle cable ...

Only tensors are read; a file with other objects in it is refused, and nothing in it is ever run. The version has no
thresholds, which are the user's own: `python -m pipelines.recalibrate` gives them.
"""

import argparse
from pathlib import Path

from inpformer.errors import UserError
from inpformer.methods.modes import SINGLE_CLASS
from pipelines.platform import command, params


def main() -> None:
    """Imports, saves the detector folder and registers it under @challenger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path("artifacts/imported"), help="the detector folder")
    parser.add_argument("--encoders", type=Path, default=Path("encoders"), help="where the encoder's weights go")
    parser.add_argument("--encoder", help="timm's name of the ViT (default: by the checkpoint's channels)")
    parser.add_argument("--weights", help="hub or a .safetensors file, instead of the checkpoint's own encoder")
    parser.add_argument("--resize", type=int, default=448, help="pixels (default: the paper's 448)")
    parser.add_argument("--crop", type=int, default=392, help="pixels (default: the paper's 392)")
    parser.add_argument("--setting", default="multi-class", help="that it was trained in (default: multi-class)")
    parser.add_argument("--categories", nargs="*", default=[], help="that it was trained on")
    args = parser.parse_args()
    if SINGLE_CLASS in args.setting and len(args.categories) != 1:
        raise UserError(f"--setting is {args.setting}: name the one category that it was trained on (--categories).")
    command.refuse_missing(args.checkpoint)
    params.check()
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.import_checkpoint.checkpoint import run

    run(args)


if __name__ == "__main__":
    command.run(main)
