"""What is written down of the code that made a result."""

import subprocess
from pathlib import Path

import pytest

from pipelines.platform import provenance


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)


def test_the_files_to_commit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance.uncommitted() is None
    assert provenance.code_tags()["git.dirty"] == "unknown"
    git("init", "-q")
    for name in ("params.yaml", "grün und rot.py", "dvc.lock"):
        Path(name).write_text("{}")
    git("add", "-A")
    git("commit", "-qm", "all")
    assert provenance.uncommitted() == []
    assert set(provenance.code_tags()) == {"git.commit", "git.dirty"}
    Path("dvc.lock").write_text("the pipeline's own")
    Path("grün und rot.py").write_text("print()")
    assert provenance.uncommitted() == ["grün und rot.py"]
    Path("params.yaml").write_text("train: {}")
    git("add", "params.yaml")
    assert provenance.code_tags()["git.uncommitted"] == "grün und rot.py, params.yaml"
    assert provenance.listed([str(n) for n in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
