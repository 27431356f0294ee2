"""Seconds until a command answers, and processor seconds of what it imports."""

import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from itertools import pairwise
from statistics import median

import yaml

from benchmarks.starting.commands import ROOT, commands, late_imports

TIMES = 3
# As a command does it, and nothing else.
IMPORT = (
    "from pipelines.platform import command, params\nparams.check()\nwith command.importing():\n    import {modules}"
)
PART = re.compile(r"Running stage '(.+)'|\$ (?:python -m )?(.+)")


def run(args: Namespace) -> None:
    """Prints what a command's start costs."""
    if args.demo:
        for part, seconds in demo():
            print(f"{part:44} {seconds:6.1f} s")
    found = commands()
    for name in found:
        print(f"python -m {name + ' --help':34} {timed(sys.executable, '-m', name, '--help'):6.2f} s")
    print(f"{'dvc repro, nothing to do':44} {timed('dvc', 'repro'):6.2f} s")
    print(f"{'python -m pipelines.promote':44} {timed(sys.executable, '-m', 'pipelines.promote'):6.2f} s")
    # tune imports what it searches with only where it searches; the demo does not.
    of_stage = {name: imports(late_imports(found[name]) if name != "pipelines.tune" else []) for name in processes()}
    for name, seconds in of_stage.items():
        print(f"{'imports of ' + name:44} {seconds:6.2f} s of processor time")
    print(f"{'imports of all processes of the demo':44} {sum(of_stage.values()):6.2f} s of processor time")


def processes() -> list[str]:
    """The commands that the demo runs one after another, but for the service."""
    stages = [stage for file in ("data/dvc.yaml", "dvc.yaml") for stage in _stages(file)]
    return [*stages, "pipelines.promote", "demo"]


def _stages(file: str) -> list[str]:
    stages = yaml.safe_load((ROOT / file).read_text())["stages"].values()
    return [stage["cmd"].split()[2] for stage in stages]


def imports(modules: list[str]) -> float:
    """Median processor seconds of a Python that imports these modules, its own start included."""
    code = IMPORT.format(modules=", ".join(modules or ["sys"]))
    return median(processor_seconds(sys.executable, "-c", code) for _ in range(TIMES))


def processor_seconds(*command: str) -> float:
    """User and system time of a command and what it waits for."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def timed(*command: str) -> float:
    """Median wall-clock seconds of a command."""
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def demo() -> list[tuple[str, float]]:
    """The demo's parts, and the wall-clock seconds of each."""
    marks = [("start", time.perf_counter())]
    with subprocess.Popen([sys.executable, "-m", "demo"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if part := PART.match(line):
                marks.append((part[1] or part[2], time.perf_counter()))
            elif line.startswith("POST "):
                marks.append(("ask, stop, draw", time.perf_counter()))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "demo")
    marks.append(("the whole", time.perf_counter()))
    parts = [(name, later - began) for (name, began), (_, later) in pairwise(marks)]
    return [*parts, ("the whole", marks[-1][1] - marks[0][1])]
