"""The command: reads a golden file and has the method that it names compared."""

import sys
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tests.golden.row import Row

# By the name in a file's metadata; INP-Former's has none. Each module has `rows(metadata, tensors)`.
CHECKS = {
    "": "tests.golden.inp_former",
    "GRNR": "tests.golden.grnr",
    "GLCF": "tests.golden.glcf",
    "DADF": "tests.golden.dadf",
    "AMI-Net": "tests.golden.ami_net",
    "TFA-Net": "tests.golden.tfa_net",
    "ST-MAE": "tests.golden.st_mae",
    "SCL-VI": "tests.golden.scl_vi",
}


def compare(file: Path) -> list[Row]:
    """All groups of a golden file, in the order in which the method computes them.

    Raises SafetensorError for another kind of file, and LookupError or ValueError for one that is not of that form.
    """
    with safe_open(file, framework="pt") as f:
        meta: dict[str, str] = f.metadata() or {}
        tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    method = meta.get("method", "")
    if method not in CHECKS:
        raise LookupError(
            f"its method is {method}: known are {', '.join(filter(None, CHECKS))} and, without one, INP-Former"
        )
    found: list[Row] = import_module(CHECKS[method]).rows(meta, tensors)
    return found


def main() -> None:
    """Prints a line a group; exits 1 where one is above what is allowed, or the file is none that can be compared."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.golden FILE.safetensors")
    file = Path(sys.argv[1])
    if not file.is_file():
        sys.exit(f"error: {file} is not a file: name a golden file, such as golden.safetensors.")
    try:
        rows = compare(file)
    except (SafetensorError, LookupError, ValueError) as error:
        sys.exit(f"error: {file} is no golden file that can be compared ({error.args[0]}).")
    for row in rows:
        said = f"{'ok' if row.held else 'TOO LARGE'}  {row.note}".rstrip()
        print(f"{row.name:22} {row.error:9.2e}  (allowed {row.allowed:.0e})  {said}")
    sys.exit(not all(row.held for row in rows))
