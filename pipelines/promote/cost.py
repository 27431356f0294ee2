r"""What detectors cost on this machine: the time from an image's bytes to its decision, and a process's memory.

python -m pipelines.promote.cost IMAGES.json DETECTOR [DETECTOR ...]

IMAGES.json is a list of [path, category]. A process of its own, as a peak of memory belongs to a process; with one
thread, one image at a time, after a warm-up. Several detectors take turns on each image, so that whatever else the
machine does slows all of them. Prints JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from inpformer.config import build
from inpformer.errors import UserError
from pipelines.platform import command
from pipelines.platform.provenance import ROOT

IMAGES, WARM_UP = 60, 3
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """Milliseconds of an image, 50th and 99th percentile over `images`; the peak in MB (10⁶ bytes) of the process,
    which held all that were measured.
    """

    p50_ms: float
    p99_ms: float
    memory_mb: float
    images: int


def measure_apart(detectors: Sequence[Path], images: Sequence[tuple[Path, str]], folder: Path) -> list[Cost]:
    """Measures in one process of its own, which leaves nothing behind but a list of the images in `folder`.

    Raises UserError if that process fails.
    """
    listed = folder / "images.json"
    listed.write_text(json.dumps([[str(path.resolve()), category] for path, category in images]))
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.promote.cost", str(listed), *map(str, detectors)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "it was killed").splitlines()[-1].removeprefix("error: ")
        what = ", ".join(detector.name for detector in detectors)
        raise UserError(f"the time and memory of {what} could not be measured ({reason}): run again.")
    return [build(Cost, cost, "cost") for cost in json.loads(done.stdout.splitlines()[-1])]


def peak_memory() -> float:
    """Of this process, in MB. What `resource` tells on Linux has the parent's in it, which this one was forked from."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes, on macOS


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("detectors", type=Path, nargs="+")
    args = parser.parse_args()
    command.refuse_missing(args.images, *args.detectors)
    # Only now: what the work needs takes seconds to import, and a mistyped argument should not.
    with command.importing():
        from pipelines.promote.stopwatch import measure

    costs = measure(args.detectors, json.loads(args.images.read_text()))
    print(json.dumps([asdict(cost) for cost in costs]))


if __name__ == "__main__":
    command.run(main)
