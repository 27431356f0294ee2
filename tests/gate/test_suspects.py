"""Suspects in categories larger than the memory that images are held against, and in several processes."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageDraw

from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from pipelines.gate import processes
from pipelines.gate import suspects as gate
from pipelines.gate.look import look_at_all
from pipelines.manifest.table import Manifest
from tests.gate.test_gate import manifest_of, plate, save
from tests.gate.test_similar import with_defect


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """Thirty good plates, one of them with a scratch."""
    root = tmp_path / "data"
    for number in range(30):
        save(plate(number), root / f"train/good/{number:02d}.png")
    scratched = plate(400)
    ImageDraw.Draw(scratched).line((30, 80, 60, 88), fill=(250, 240, 90), width=4)
    save(scratched, root / "train/good/scratched.png")
    with_defect(root)
    return root


def scores_of(manifest: Manifest, paths: list[str]) -> dict[str, float]:
    with processes.spread(len(paths)) as each, gate.tqdm(disable=True) as progress:
        found = gate.score_all(manifest.root, paths, WHITE, each, progress)
    return dict(zip(paths, found.tolist(), strict=True))


def test_a_defect_is_suspected_inside_and_outside_the_memory(plates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MEMORY_IMAGES", 16)
    monkeypatch.setattr(gate, "JOB_IMAGES", 5)
    manifest = manifest_of(plates)
    paths = [row.path for row in manifest.rows if row.split != "test"]
    scratched = paths.index("train/good/scratched.png")
    for first in (scratched, scratched - 20):  # the memory holds the first 16
        scores = scores_of(manifest, paths[first:] + paths[:first])
        assert len(scores) == 31
        assert max(scores, key=scores.__getitem__) == "train/good/scratched.png"


def test_what_is_found_does_not_depend_on_the_number_of_processes(
    plates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(plates)
    here, looks = gate.suspects(manifest, WHITE), look_at_all(manifest, WHITE)
    monkeypatch.setattr(processes, "WORTHWHILE", 1)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 2)
    assert gate.suspects(manifest, WHITE) == here
    assert [f.paths for f in here] == [("train/good/scratched.png",)]
    for path, look in look_at_all(manifest, WHITE).items():
        np.testing.assert_array_equal(look.frequencies, looks[path].frequencies)


def test_an_image_that_is_gone_is_named_from_another_process(plates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(plates)
    (plates / "train/good/07.png").unlink()
    monkeypatch.setattr(processes, "WORTHWHILE", 1)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 2)
    with pytest.raises(UserError, match=r"07\.png is missing"):
        look_at_all(manifest, WHITE)


def test_a_killed_process_is_an_error_of_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 2)
    with pytest.raises(UserError, match="killed"), processes.spread(10_000) as each:
        list(each(processes.os._exit, [1, 1]))


def test_torch_keeps_its_threads_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with processes.spread(10) as each:
        assert list(each(lambda _: torch.get_num_threads(), [0])) == [1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


ENDLESS = """
import os, time
from pipelines.gate import processes
def wait(_):
    print(os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    processes.os.cpu_count = lambda: 2
    with processes.spread(10_000) as each:
        list(each(wait, [1, 2]))
"""


def test_the_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, str(tmp_path / "endless.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
    ended = time.monotonic() + 20
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < ended
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
