"""A version made again and held against the first."""

import tempfile
from argparse import Namespace
from pathlib import Path

from inpformer.errors import UserError
from pipelines.platform.params import read_section
from pipelines.platform.registry import download_detector, find_version
from pipelines.register.settings import RegisterSettings
from pipelines.reproduce.compare import ROUNDING, Difference, difference
from pipelines.reproduce.origin import read_origin
from pipelines.reproduce.worktree import DETECTOR, PLACE, fetch_data, train_again, worktree

WHY = (
    "sums whose order depends on the machine: another number of threads or workers, another processor, a GPU's atomic "
    "additions"
)


def run(args: Namespace) -> None:
    """Makes the version again. Raises UserError if it cannot be, or is another one."""
    model_name = read_section("register", RegisterSettings).model_name
    version = find_version(model_name, args.version)
    name = f"{model_name} version {version.number}"
    with tempfile.TemporaryDirectory(prefix="inpformer-") as temporary:
        origin = read_origin(model_name, version.number, Path(temporary))
        first = download_detector(model_name, version.number, Path(temporary))
        print(f"{name}: commit {origin.commit[:12]}, data {origin.data}, in {PLACE / version.number}", flush=True)
        with worktree(version.number, origin) as folder:
            fetch_data(folder, origin)
            train_again(folder, origin)
            found = difference(first, folder / DETECTOR)
            print(verdict(name, found))
            if not (found.equal or found.rounding):
                raise UserError(f"{name} is not what its commit, data and parameters make: look into {folder}.")


def verdict(name: str, found: Difference) -> str:
    """How equal they are, in a sentence."""
    if found.equal:
        return f"{name} is reproduced, byte for byte"
    amounts = f"thresholds differ by up to {found.thresholds:.2g} of themselves"
    amounts += f", tensors by up to {found.tensors:.2g} of their largest value ({found.tensor})"
    if found.rounding:
        return f"{name} is reproduced up to rounding: {amounts}; {ROUNDING:g} of the thresholds is allowed, for {WHY}"
    return f"{name} is another one: {amounts}; up to {ROUNDING:g} of the thresholds would come of {WHY}"
