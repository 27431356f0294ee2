"""The command as people and CI call it: what it refuses at once, what goes to stdout, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from pipelines.platform.registry import aliases, set_alias
from pipelines.promote import __main__ as command
from pipelines.promote import gate
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions
from tests.promote.weighing import giving, kinds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workplace(three_versions: MlflowClient, tmp_path: Path) -> MlflowClient:
    (tmp_path / "params.yaml").write_text("{}")
    set_alias(NAME, "challenger", "1")
    return three_versions


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str, allows: bool = True) -> None:
    """The command in this process, with a gate that says one thing."""
    monkeypatch.setattr(gate, "weigh", giving(allows))
    monkeypatch.setattr(sys, "argv", ["promote", *arguments])
    command.main()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--check", "--approve"),
        ("--check", "--force", "why"),
        ("--approve", "--force", "why"),
        ("rollback", "--check"),
        ("rollback", "--force", "why"),
        ("--accept-broken-promise", "--check"),
        ("1", "2"),
        ("rollback", "1", "2"),
        ("--force",),
    ],
)
def test_arguments_that_exclude_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["promote", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.arguments()
    assert ended.value.code == 2


def test_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, version, back in (
        ([], None, False),
        (["7"], "7", False),
        (["rollback"], None, True),
        (["rollback", "7"], "7", True),
    ):
        monkeypatch.setattr(sys, "argv", ["promote", *words])
        args = command.arguments()
        assert (args.version, args.rollback) == (version, back)


def test_promotion_and_the_way_back(
    workplace: MlflowClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch)
    call(monkeypatch, "2")
    call(monkeypatch, "3", "--force", "the line stands")
    assert capfd.readouterr().out.splitlines() == [
        "inpformer version 1 is @champion",
        "inpformer version 2 is @champion, version 1 is @previous",
        "inpformer version 3 is @champion, version 2 is @previous",
    ]
    call(monkeypatch, "rollback")
    assert aliases(NAME) == {"challenger": "1", "champion": "2", "previous": "3"}
    assert kinds()[-3:] == ["promoted", "rollback", "promoted"]


def test_each_command_says_first_what_it_will_do(
    workplace: MlflowClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.update_model_version(NAME, "2", "multi-class on data/nuts\nimage AUROC 0.9")
    workplace.set_model_version_tag(NAME, "2", "method", "inp_former")
    call(monkeypatch)
    capfd.readouterr()
    call(monkeypatch, "2")
    said = capfd.readouterr().err
    for words in ("from  version 1", "to    version 2", "data/nuts", "AUROC 0.9", "method inp_former", "who   "):
        assert words in said
    call(monkeypatch, "rollback")
    said = capfd.readouterr().err
    assert said.index("from  version 2") < said.index("to    version 1")


@pytest.mark.parametrize(("allows", "code"), [(True, None), (False, 1)])
def test_a_check_is_json_on_stdout_and_an_exit_code(
    workplace: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    allows: bool,
    code: int | None,
) -> None:
    def noisy(*given):
        print("from a library")
        subprocess.run(["echo", "from a child"], check=True)
        return giving(allows)(*given)

    monkeypatch.setattr(gate, "weigh", noisy)
    monkeypatch.setattr(sys, "argv", ["promote", "--check"])
    if code is None:
        command.main()
    else:
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code
    said = capfd.readouterr()
    answer = json.loads(said.out)
    assert (answer["allowed"], answer["challenger"], answer["verdict"]["allows"]) == (allows, "1", allows)
    assert "from a library" in said.err
    assert "from a child" in said.err
    assert aliases(NAME) == {"challenger": "1"}


@pytest.mark.parametrize(("version", "why"), [("1", "test images"), ("9", "no version 9")])
def test_a_check_that_cannot_weigh_says_why_in_json_too(
    workplace: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    version: str,
    why: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["promote", version, "--check"])  # a real gate: version 1 keeps no test images
    with pytest.raises(UserError, match=why):
        command.main()
    answer = json.loads(capfd.readouterr().out)
    assert (answer["allowed"], answer["verdict"], why in answer["why"]) == (False, None, True)


def test_a_refusal_is_one_sentence_and_exit_code_1(workplace: MlflowClient, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A real gate: these versions keep no test images.
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.promote"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert aliases(NAME) == {"challenger": "1"}
