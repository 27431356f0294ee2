"""Which promises promotion asks for, in a real MLflow on SQLite: broken ones, accepted ones, and none."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from pipelines.evaluate.promise import BROKEN_TAG, HELD, HELD_TAG, NOT_HELD, NOT_TESTED
from pipelines.platform.registry import aliases, find_version, set_version_tags
from pipelines.promote.fitness import ACCEPTED_TAG
from pipelines.record.record import Record
from pipelines.register.version import tell_promise
from tests.evaluate.test_promise import cast_parts
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions
from tests.promote.weighing import kinds, promoted

NUMBERS = "nut: 13 of 78 good test parts FAIL, at most 3.92% on average were promised"
BROKEN = {HELD_TAG: NOT_HELD, BROKEN_TAG: NUMBERS}


def tags_of(number: str) -> dict[str, str]:
    return find_version(NAME, number).tags


def evaluation(folder: Path, failing: int) -> Path:
    """An evaluation.json whose only category has so many false alarms among 78 parts."""
    numbers = {"mean": {}, "promise": {name: found.numbers for name, found in cast_parts(failing).items()}}
    (folder / "evaluation.json").write_text(json.dumps({"multi-class": numbers}))
    return folder / "evaluation.json"


def test_a_broken_promise_is_refused_with_its_numbers_before_anything_moves(three_versions: MlflowClient) -> None:
    promoted("1")
    set_version_tags(NAME, "2", BROKEN)
    with pytest.raises(UserError, match=r"version 2 .*nut: 13 of 78.*3\.92%.*--accept-broken-promise"):
        promoted("2")
    assert aliases(NAME) == {"champion": "1"}
    assert ACCEPTED_TAG not in tags_of("2")
    assert kinds()[-1] == "refusal"


def test_who_accepts_it_is_held_to_those_numbers(three_versions: MlflowClient) -> None:
    promoted("1")
    set_version_tags(NAME, "2", BROKEN)
    assert promoted("2", accept=True) == ("2", "1")
    assert tags_of("2")[ACCEPTED_TAG] == NUMBERS
    assert [e.details.get("accepted") for e in Record.open(NAME).entries() if e.kind == "verdict"] == [None, NUMBERS]
    assert promoted("3") == ("3", "2")
    assert promoted("previous") == ("2", "3")  # accepted before
    promoted("3")
    set_version_tags(NAME, "2", {BROKEN_TAG: "nut: 40 of 78"})
    with pytest.raises(UserError, match="40 of 78"):
        promoted("previous")


def test_the_flag_accepts_nothing_where_nothing_is_broken(three_versions: MlflowClient) -> None:
    set_version_tags(NAME, "1", {HELD_TAG: HELD})
    for number in ("1", "2"):
        assert promoted(number, accept=True)[0] == number
        assert ACCEPTED_TAG not in tags_of(number)


def test_a_promise_that_was_not_tested_is_no_hindrance_and_it_is_said(
    three_versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    set_version_tags(NAME, "2", {HELD_TAG: NOT_TESTED})
    set_version_tags(NAME, "3", {HELD_TAG: HELD})
    for wanted, said in (("1", True), ("2", True), ("previous", True), ("3", False)):
        promoted(wanted)
        assert ("not tested" in capsys.readouterr().err) == said
    assert aliases(NAME) == {"champion": "3", "previous": "1"}


def test_the_champion_stays_although_its_promise_is_broken(three_versions: MlflowClient) -> None:
    promoted("1")
    set_version_tags(NAME, "1", BROKEN)
    assert promoted("champion") == ("1", None)


def test_a_record_is_added_and_only_gets_worse(three_versions: MlflowClient, tmp_path: Path) -> None:
    for failing, held in ((2, HELD), (13, NOT_HELD), (2, NOT_HELD)):
        tell_promise(find_version(NAME, "1"), NAME, evaluation(tmp_path, failing))
        assert tags_of("1")[HELD_TAG] == held
    assert "13 of 78" in tags_of("1")[BROKEN_TAG]
    tell_promise(find_version(NAME, "1"), NAME, evaluation(tmp_path, 30))
    assert "13 of 78" in tags_of("1")[BROKEN_TAG]
