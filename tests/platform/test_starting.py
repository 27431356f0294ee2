"""Commands answer at once where there is no work to do: help and refusals import nothing that takes seconds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.starting.commands import ROOT, commands, late_imports

HEAVY = {"torch", "timm", "ray", "mlflow"}
SECONDS = 1.0  # of processor time, of a slow one: torch alone takes as long to load
EPOCH = ("\ntrain:", "\ntrain:\n  epoch: 1")
PARAMS = (ROOT / "params.yaml").read_text()


def answer(folder: Path, name: str, *arguments: str) -> tuple[int, str, set[str], float]:
    """Exit code, all that was said, the packages imported and the processor seconds of `python -m name`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", name, *arguments],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    words = "\n".join(line for line in lines if not line.startswith("import time:"))
    return process.returncode, words, imported, usage.ru_utime + usage.ru_stime


def test_every_command_is_found() -> None:
    found = set(commands())
    assert {"pipelines.train", "pipelines.job", "pipelines.preset", "demo", "demo.data", "serving"} <= found
    assert "benchmarks.starting" in found
    assert late_imports(commands()["pipelines.train"]) == ["pipelines.train.fit"]


@pytest.mark.parametrize("name", commands())
def test_help_is_there_at_once(name: str, tmp_path: Path) -> None:
    code, words, imported, seconds = answer(tmp_path, name, "--help")
    assert (code, words.startswith("usage: ")) == (0, True), words
    assert imported & HEAVY == set()
    assert seconds < SECONDS


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (("  data: data/demo", "  data: nowhere"), ("manifest", "--out", "o"), "nowhere is not there"),
        (
            ("", ""),
            ("gate", "--manifest", "no.parquet", "--report", "r", "--findings", "f", "--linked", "l"),
            "no.parquet is not there",
        ),
        (
            ("", ""),
            ("features", "--manifest", "no.parquet", "--out", "o", "--pictures", "p"),
            "no.parquet is not there",
        ),
        (
            ("", ""),
            ("train", "--manifest", "here", "--features", "no.json", "--model", "m", "--run", "r", "--loss", "l"),
            "no.json is not there",
        ),
        (("", ""), ("preset", "papre"), "there is no preset papre"),
        (("", ""), ("fetch", "s3://bucket/a.tar", "--sha256", "123"), "--sha256 is '123'"),
        (("", ""), ("import_checkpoint", "no.pth"), "no.pth is not there"),
        (("", ""), ("recalibrate", "1", "--category", "a", "--normals", "nowhere"), "nowhere is not there"),
        (
            EPOCH,
            ("features", "--manifest", "here", "--out", "o", "--pictures", "p"),
            "train.epoch is not a known key",
        ),
        (("", ""), ("compare", "--methods", "nearest", "grnr"), "features` first"),
        (
            ("", ""),
            ("compare", *("--manifest", "here", "--features", "here", "--linked", "here", "--methods", *2 * ["grnr"])),
            "names grnr twice",
        ),
        (("", ""), ("audit", "verify", "--file", "nowhere"), "nowhere is not there"),
        (("", ""), ("promote", "--force", " "), "the reason is empty"),
        (("drift: accept", "drift: ignore"), ("promote",), "promote.drift is 'ignore'"),
        (("  layout: auto", "  layout: mine"), ("manifest", "--out", "o"), "layout is 'mine'"),
        (EPOCH, ("demo",), "train.epoch is not a known key"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, change: tuple[str, str], arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "here").touch()
    (tmp_path / "params.yaml").write_text(PARAMS.replace(*change, 1) if change[0] else PARAMS)
    name, *rest = arguments
    code, said, imported, seconds = answer(tmp_path, name if name == "demo" else f"pipelines.{name}", *rest)
    assert (code, words in said) == (1, True), said
    assert imported & HEAVY == set()
    assert seconds < SECONDS
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("package", ["numpy", "torch.nn", "timm"])
def test_ctrl_c_while_it_imports_is_one_sentence(tmp_path: Path, number: signal.Signals, package: str) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "here").touch()
    arguments = ("--manifest", "here", "--features", "here", "--model", "m", "--run", "r", "--loss", "l")
    command = [sys.executable, "-v", "-m", "pipelines.train", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = []
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():  # -v names each module that was imported
            said.append(line)
            if line.startswith(f"import '{package}'"):
                process.send_signal(number)
    assert process.returncode == 130
    assert len([line for line in said if line.startswith("interrupted: ")]) == 1
    assert not [line for line in said if "Traceback" in line or "KeyboardInterrupt" in line]
