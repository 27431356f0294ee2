"""From numbers to an outcome."""

from dataclasses import replace

import pytest

from inpformer.config import build
from inpformer.errors import UserError
from pipelines.promote.compare import Compared
from pipelines.promote.cost import Cost
from pipelines.promote.decide import Decisions, Evidence, conclude
from pipelines.promote.first import conclude_first
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import BETTER, NOT_WORSE, TOO_FEW, WORSE
from pipelines.promote.weighing import broken_budgets

MEAN = Compared("recall", None, 0.9, 0.9, -0.02, 0.02, 0.05, 100, False, False, 1.0)
NUT = replace(MEAN, category="nut", low=-0.1, high=0.1, margin=0.15)
EVEN = Decisions(90, 5, 5, 0, 1.0)
NOW = {"nut": {"good": 30, "defective": 60}, "bolt": {"good": 20, "defective": 40}}


def evidence(
    *compared: Compared, decisions: Decisions = EVEN, lost: tuple[str, ...] = (), untested: tuple[str, ...] = ()
) -> Evidence:
    return Evidence(compared, decisions, lost, untested, NOW, 0.05)


def test_what_keeps_every_margin_is_not_worse_and_what_gains_besides_is_better() -> None:
    assert conclude(evidence(MEAN, NUT)).outcome == NOT_WORSE
    assert conclude(evidence(replace(MEAN, surely_better=True), NUT)).outcome == BETTER
    assert conclude(evidence(MEAN, replace(NUT, surely_better=True))).outcome == NOT_WORSE  # a category alone


def test_a_gain_does_not_pay_for_a_loss() -> None:
    gained = replace(MEAN, surely_better=True)
    fallen = replace(NUT, challenger=0.6, low=-0.4, high=-0.2, surely_worse=True, growth=None)
    found = conclude(evidence(gained, fallen))
    assert found.outcome == WORSE
    assert "nut" in found.reasons


def test_what_is_surely_lower_but_within_the_margin_is_not_worse() -> None:
    assert conclude(evidence(replace(MEAN, low=-0.04, high=-0.01, surely_worse=True))).outcome == NOT_WORSE


def test_more_wrong_decisions_are_worse_within_every_margin() -> None:
    assert conclude(evidence(MEAN, decisions=Decisions(900, 2, 14, 3, 0.004))).outcome == WORSE
    assert conclude(evidence(MEAN, decisions=Decisions(900, 14, 2, 3, 0.004))).outcome == NOT_WORSE


def test_a_lost_category_is_worse_and_an_untested_one_cannot_be_told() -> None:
    found = conclude(evidence(MEAN, lost=("bolt",)))
    assert (found.outcome, "bolt" in found.reasons) == (WORSE, True)
    found = conclude(evidence(MEAN, untested=("bolt",)))
    assert (found.outcome, "bolt" in found.reasons, found.takes) == (TOO_FEW, True, None)
    assert conclude(evidence()).outcome == TOO_FEW


def test_too_few_says_how_many_parts_of_which_class_it_takes() -> None:
    short = replace(MEAN, low=-0.08, growth=2.5)
    assert conclude(evidence(short)).takes == {"good": 50, "defective": 250}  # recall takes defective ones
    narrow = replace(NUT, measure="specificity", low=-0.3, growth=3.0)
    assert conclude(evidence(short, narrow)).takes == {"good": 3 * 30 + 20, "defective": 250}
    found = conclude(evidence(short, replace(narrow, growth=None)))
    assert (found.outcome, found.takes) == (TOO_FEW, None)


CHANCE = replace(MEAN, measure="above_chance", challenger=0.9, other=0.5, low=0.3, high=0.5, margin=0.0)


def test_a_first_champion_must_be_better() -> None:
    better = evidence(replace(MEAN, surely_better=True))
    assert conclude_first(better, [CHANCE], baseline=True).outcome == BETTER
    assert conclude_first(evidence(MEAN), [CHANCE], baseline=True).outcome == NOT_WORSE
    assert conclude_first(evidence(), [CHANCE], baseline=False).outcome == BETTER
    guessing = replace(CHANCE, challenger=0.52, low=-0.1, high=0.1, growth=9.0)
    assert conclude_first(better, [guessing], baseline=True).outcome == TOO_FEW
    assert conclude_first(better, [replace(guessing, high=-0.01)], baseline=True).outcome == WORSE
    assert conclude_first(better, [], baseline=False).outcome == TOO_FEW


def test_budgets() -> None:
    cost = Cost(10.0, 50.0, 900.0, 60)
    assert broken_budgets(cost, PromoteSettings()) == []
    assert broken_budgets(cost, PromoteSettings(latency_ms=50, memory_mb=900)) == []
    assert len(broken_budgets(cost, PromoteSettings(latency_ms=49, memory_mb=899))) == 2
    assert len(broken_budgets(None, PromoteSettings(latency_ms=49))) == 1  # not measured is not kept


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"margins": {"recall": 0.0}}, "margins.recall"),
        ({"margins": {"recal": 0.1}}, "margins.recal"),
        ({"category_margin": 1.5}, "category_margin"),
        ({"replicates": 100}, "replicates"),
        ({"replicates": 10**9}, "replicates"),
        ({"confidence": 0.999}, "confidence"),
        ({"confidence": 0.99, "replicates": 2000}, "replicates"),
        ({"seed": -1}, "seed"),
        ({"latency_ms": 0}, "latency_ms"),
        ({"memory_mb": -5}, "memory_mb"),
    ],
)
def test_settings_refuse_what_cannot_be(values: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=rf"promote\.{key}"):
        build(PromoteSettings, values, "params.yaml: promote")
