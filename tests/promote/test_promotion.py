"""Promotion, refusal, force, approval and the way back, in a real MLflow on SQLite."""

import pytest
from mlflow import MlflowClient

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from pipelines.platform.registry import Evidence, aliases, register_alone, set_alias, set_version_tags
from pipelines.promote.approval import approve
from pipelines.promote.promotion import RefusedError, check, force, promote
from pipelines.promote.protocol import OvertakenError
from pipelines.promote.rollback import rollback
from pipelines.promote.settings import PromoteSettings
from pipelines.record.record import Record
from tests.platform.test_registry import NAME
from tests.platform.test_registry import registry as registry
from tests.platform.test_registry import three_versions as three_versions
from tests.promote.weighing import giving, kinds, promoted

PLAIN = PromoteSettings()
TWO_PEOPLE = PromoteSettings(approval=True)


def be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes this process another person's."""
    monkeypatch.setenv("LOGNAME", name)


def test_promotion_keeps_the_way_back(three_versions: MlflowClient) -> None:
    set_alias(NAME, "challenger", "1")
    assert promoted("challenger") == ("1", None)
    assert promoted("3") == ("3", "1")
    assert aliases(NAME) == {"challenger": "1", "champion": "3", "previous": "1"}
    assert promoted("previous") == ("1", "3")
    assert aliases(NAME) == {"challenger": "1", "champion": "1", "previous": "3"}


def test_a_promotion_says_in_the_record_what_it_moves_and_why(three_versions: MlflowClient) -> None:
    promoted("1")
    promoted("2")
    assert kinds() == ["verdict", "promotion", "promoted"] * 2
    verdict, intent, done = Record.open(NAME).entries()[3:]
    assert (verdict.version, verdict.details["against"], verdict.details["evidence"]) == ("2", "1", "5" * 64)
    assert {name: intent.details[name] for name in ("from", "to", "outcome")} == {
        "from": "1",
        "to": "2",
        "outcome": "better",
    }
    assert (done.details["champion"], done.details["previous"], done.details["closes"]) == ("2", "1", intent.number)


def test_promoting_the_champion_again_changes_nothing(three_versions: MlflowClient) -> None:
    promoted("1")
    promoted("2")
    before = kinds()
    assert promoted("2") == ("2", "1")
    assert force(NAME, "2", PLAIN, "why not").champion == "2"
    assert aliases(NAME) == {"champion": "2", "previous": "1"}
    assert kinds() == before


def test_what_does_not_exist_is_not_promoted(three_versions: MlflowClient) -> None:
    with pytest.raises(UserError, match=r"has no version @challenger \(it has none\): run `dvc repro` first"):
        promoted("challenger")
    for absent in ("9", "0", str(10**30)):
        with pytest.raises(UserError, match=rf"has no version {absent} \(it has 1 to 3\)"):
            promoted(absent)
    assert (aliases(NAME), kinds()) == ({}, [])


def test_an_unknown_model_is_no_server_that_is_down_and_gets_no_record(registry: MlflowClient) -> None:
    with pytest.raises(UserError, match="the registry has no model inpformer: run `dvc repro` first"):
        promoted("1")
    assert list(registry.search_registered_models()) == []


def test_what_the_gate_refuses_is_recorded_and_nothing_moves(three_versions: MlflowClient) -> None:
    promoted("1")
    with pytest.raises(RefusedError, match=r"It misses more\. Look at the page"):
        promote(NAME, "2", PLAIN, giving(allows=False))
    assert aliases(NAME) == {"champion": "1"}
    assert kinds()[-2:] == ["verdict", "refusal"]
    assert Record.open(NAME).entries()[-1].details["outcome"] == "worse"


def test_a_check_moves_nothing_and_is_recorded(three_versions: MlflowClient) -> None:
    promoted("1")
    assert check(NAME, "2", PLAIN, giving())["allowed"]
    refused = check(NAME, "2", PLAIN, giving(allows=False))
    assert (refused["allowed"], refused["verdict"]["outcome"], refused["champion"]) == (False, "worse", "1")
    assert check(NAME, "1", PLAIN, giving(allows=False))["allowed"]  # it serves
    assert aliases(NAME) == {"champion": "1"}
    assert kinds()[3:] == ["verdict", "verdict"]
    set_version_tags(NAME, "2", {"promise.held": "no", "promise.broken": "nut: 13 of 78"})
    unfit = check(NAME, "2", PLAIN, giving())
    assert (unfit["allowed"], unfit["verdict"], "13 of 78" in unfit["why"]) == (False, None, True)
    assert kinds()[3:] == ["verdict", "verdict"]


def test_a_version_without_thresholds_is_neither_promoted_nor_forced(
    registry: MlflowClient, detector: Detector, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector.save(tmp_path / "detector")
    made_of = Evidence("multi-class on data/nuts\ncode \x1b[31mabc", {"calibrated": "no"})
    register_alone(tmp_path / "detector", NAME, "key", "a run", made_of)
    with pytest.raises(UserError, match="has no thresholds"):
        promoted("challenger")
    said = capsys.readouterr().err
    assert "multi-class on data/nuts" in said
    assert "\x1b" not in said
    with pytest.raises(UserError, match="has no thresholds"):
        force(NAME, "1", PLAIN, "I must")
    assert kinds() == ["refusal", "refusal"]
    assert aliases(NAME) == {"challenger": "1"}


def test_force_asks_no_gate_and_records_the_reason(three_versions: MlflowClient) -> None:
    set_version_tags(NAME, "1", {"promise.held": "no", "promise.broken": "all"})
    assert force(NAME, "1", TWO_PEOPLE, " the line\n stands ").champion == "1"
    assert kinds() == ["forced", "promoted"]
    assert Record.open(NAME).entries()[0].details["reason"] == "the line stands"
    for wrong in ("", " \n", "x" * 1001, "\x1b[2J", "\udcff"):
        with pytest.raises(UserError, match="the reason is"):
            force(NAME, "2", PLAIN, wrong)
    assert force(NAME, "2", PLAIN, "λ" * 1000).champion == "2"


def test_the_way_back_is_one_command_and_twice_the_same(three_versions: MlflowClient) -> None:
    with pytest.raises(UserError, match="has no @previous"):
        rollback(NAME, None, PLAIN)
    promoted("1")
    promoted("2")
    state = rollback(NAME, None, TWO_PEOPLE)
    assert (state.champion, state.previous) == ("1", "2")
    before = kinds()
    assert rollback(NAME, None, PLAIN).champion == "1"  # and not forth again
    assert rollback(NAME, "1", PLAIN).champion == "1"
    assert (aliases(NAME), kinds()) == ({"champion": "1", "previous": "2"}, before)
    assert rollback(NAME, "2", PLAIN).champion == "2"
    assert aliases(NAME) == {"champion": "2", "previous": "1"}


def test_only_what_has_been_champion_is_rolled_back_to(three_versions: MlflowClient) -> None:
    promoted("1")
    promoted("2")
    with pytest.raises(UserError, match=r"version 3 has never been @champion \(these have: 1, 2\)"):
        rollback(NAME, "3", PLAIN)
    assert aliases(NAME) == {"champion": "2", "previous": "1"}


def test_a_second_person_approves(three_versions: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, "ann")
    promoted("1", settings=PLAIN)
    assert promoted("2", settings=TWO_PEOPLE) == ("1", None)
    assert promoted("2", settings=TWO_PEOPLE) == ("1", None)  # again: it waits, and is not weighed again
    assert kinds()[3:] == ["verdict", "proposal"]
    with pytest.raises(UserError, match="Somebody else has to"):
        approve(NAME, None, TWO_PEOPLE)
    be(monkeypatch, "bob")
    with pytest.raises(UserError, match="no open proposal of version 3"):
        approve(NAME, "3", TWO_PEOPLE)
    state = approve(NAME, None, TWO_PEOPLE)
    assert (state.champion, state.previous) == ("2", "1")
    assert kinds()[5:] == ["refusal", "approval", "promotion", "promoted"]
    before = kinds()
    assert approve(NAME, "2", TWO_PEOPLE).champion == "2"
    assert kinds() == before


def test_who_registered_it_does_not_approve_it(
    registry: MlflowClient, detector: Detector, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be(monkeypatch, "ann")
    detector.save(tmp_path / "detector")
    number = register_alone(tmp_path / "detector", NAME, "key", "a run", Evidence())
    Record.open(NAME).append("registration", number, {})
    be(monkeypatch, "bob")
    promoted(number, settings=TWO_PEOPLE)
    for name in ("ann", "Ann@elsewhere"):
        be(monkeypatch, name)
        with pytest.raises(UserError, match="registered it"):
            approve(NAME, None, TWO_PEOPLE)
    be(monkeypatch, "eve")
    assert approve(NAME, None, TWO_PEOPLE).champion == number


def test_a_proposal_is_void_once_the_champion_changed_or_a_verdict_forbids_it(
    three_versions: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    be(monkeypatch, "ann")
    promoted("1")
    promoted("2", settings=TWO_PEOPLE)
    force(NAME, "3", PLAIN, "urgent")
    be(monkeypatch, "bob")
    with pytest.raises(UserError, match="has no open proposal"):
        approve(NAME, None, TWO_PEOPLE)
    promoted("2", settings=TWO_PEOPLE)
    check(NAME, "2", TWO_PEOPLE, giving(allows=False))
    be(monkeypatch, "ann")
    with pytest.raises(UserError, match="has no open proposal"):
        approve(NAME, None, TWO_PEOPLE)
    assert aliases(NAME) == {"champion": "3", "previous": "1"}


def test_an_approval_that_was_cut_off_is_gone_on_with(
    three_versions: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    be(monkeypatch, "ann")
    promoted("1", settings=TWO_PEOPLE)
    proposal = Record.open(NAME).entries()[-1]
    be(monkeypatch, "bob")
    Record.open(NAME).append("approval", "1", {"proposal": proposal.number})
    be(monkeypatch, "ann")
    assert promoted("1", settings=TWO_PEOPLE) == ("1", None)
    assert kinds() == ["verdict", "proposal", "approval", "promotion", "promoted"]


def test_a_champion_that_changed_while_the_gate_was_weighing_stays(three_versions: MlflowClient) -> None:
    promoted("1")

    def slow(*given):
        force(NAME, "3", PLAIN, "urgent")
        return giving()(*given)

    with pytest.raises(OvertakenError, match="version 3"):
        promote(NAME, "2", PLAIN, slow)
    assert aliases(NAME) == {"champion": "3", "previous": "1"}
    assert kinds()[-1] == "verdict"
