"""How commands end, and that nothing half written stays."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inpformer.errors import UserError
from pipelines.platform import command, files

ROOT = Path(__file__).resolve().parents[2]


def test_a_user_error_is_its_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("the plug is out: put it in.")

    with pytest.raises(SystemExit) as end:
        command.run(main)
    assert end.value.code == "error: the plug is out: put it in."  # Python prints it and exits with 1


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        command.run(main)
    assert end.value.code == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_terminated_command_cleans_up_as_after_ctrl_c(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom pipelines.platform import command, files\n"
        "def main():\n    with files.written_whole(Path('out')) as t:\n        t.write_text('half')\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n        signal.pause()\ncommand.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (130, []), done.stderr


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp/half").touch()
    with files.written_whole(tmp_path / "out") as temporary:
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_interrupted_leaves_the_old_output(tmp_path: Path, folder: bool) -> None:
    target = tmp_path / "out"
    for content in ("old", "half"):
        try:
            with files.written_whole(target) as temporary:
                file = temporary / "file" if folder else temporary
                file.parent.mkdir(exist_ok=True)
                file.write_text(content)
                if content == "half":
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert (target / "file" if folder else target).read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_output_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep/out"
    for name in ("first", "second"):
        with files.written_whole(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"]


@pytest.fixture
def read_only(small_disk: Path) -> Path:
    """A folder that not even root can write to."""
    shutil.copy(ROOT / "params.yaml", small_disk)
    shutil.copytree(ROOT / "presets", small_disk / "presets")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


def test_a_read_only_folder_is_one_sentence_that_names_it(read_only: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command_line = [sys.executable, "-m", "pipelines.preset", "paper"]
    done = subprocess.run(command_line, cwd=read_only, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert ".params.yaml.tmp" in done.stderr
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("place", ["reports", "deep/reports"])
def test_what_cannot_be_written_is_named(read_only: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    for folder in (read_only, tmp_path / "file"):  # read-only; no folder at all
        with pytest.raises(UserError) as error, files.written_whole(folder / place / "out"):
            raise AssertionError("nothing could be written here")
        assert str(folder) in str(error.value)


def test_a_file_system_that_refuses_anywhere_else_is_one_sentence_too(read_only: Path) -> None:
    def main() -> None:
        (read_only / "new").mkdir()

    with pytest.raises(SystemExit) as end:
        command.run(main)
    assert str(read_only / "new") in str(end.value.code)


def test_other_errors_of_the_system_are_not_hidden() -> None:
    def main() -> None:
        Path("/nowhere/file").read_text()

    with pytest.raises(FileNotFoundError):
        command.run(main)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_who_stops_reading_sees_no_traceback(lines: int) -> None:
    code = f"from pipelines.platform import command\ncommand.run(lambda: print('line\\n' * {lines}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, "")


def test_another_pipe_that_breaks_is_no_reader_of_ours() -> None:
    def main() -> None:
        raise BrokenPipeError(32, "a server hung up")

    with pytest.raises(BrokenPipeError):
        command.run(main)
