"""The laws of false alarms and of ranks, by simulation and against permutations."""

from itertools import combinations

import numpy as np
import pytest

from inpformer.metrics.fresh import EXACT_PAIRS, shift, tail_at, tail_on_average


@pytest.mark.parametrize(("held_out", "rank", "parts"), [(19, 19, 30), (50, 49, 78), (2, 2, 3)])
def test_alarms_on_average_have_the_law_of_simulated_calibrations(held_out: int, rank: int, parts: int) -> None:
    rng = np.random.default_rng(0)
    draws = 20_000
    thresholds = np.sort(rng.random((draws, held_out)), axis=1)[:, rank - 1]
    alarms = (rng.random((draws, parts)) > thresholds[:, None]).sum(1)
    for found in (1, 2, parts // 5 + 1, parts):
        share = float(np.mean(alarms >= found))
        assert tail_on_average(found, parts, held_out, rank) == pytest.approx(share, abs=4 * np.sqrt(0.25 / draws))
    # A binomial at the average rate is no law of it: it calls three times as many surprising.
    surprising = next(n for n in range(parts + 2) if n > parts or tail_at(n, parts, 1 - rank / (held_out + 1)) < 0.05)
    assert parts < 5 or np.mean(alarms >= surprising) > 0.05


def test_tails_by_hand() -> None:
    # One held-out part: of it and two fresh ones in any order, both fresh ones are above it in two of six.
    assert tail_on_average(2, 2, 1, 1) == pytest.approx(1 / 3)
    assert tail_on_average(0, 5, 9, 9) == pytest.approx(1)
    assert tail_at(2, 2, 0.3) == pytest.approx(0.09)
    assert tail_at(0, 4, 0.3) == 1


def test_the_shift_is_that_of_all_permutations_with_and_without_ties() -> None:
    for held, fresh in (([0.1, 0.4, 0.2], [0.5, 0.3, 0.7, 0.6]), ([1, 1, 2, 3], [3, 3, 4])):
        values = np.array([*held, *fresh], float)

        def wins(chosen: tuple[int, ...], values: np.ndarray = values) -> float:
            rest = np.delete(values, chosen)
            pairs = values[list(chosen)][:, None] - rest
            return float((pairs > 0).sum() + (pairs == 0).sum() / 2)

        statistic = wins(tuple(range(len(held), len(values))))
        every = np.array([wins(chosen) for chosen in combinations(range(len(values)), len(fresh))])
        one_sided = min(np.mean(every >= statistic), np.mean(every <= statistic))
        found = shift(held, fresh)
        assert found.higher == statistic / (len(held) * len(fresh))
        assert found.p_value == pytest.approx(min(1.0, 2 * one_sided))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [12, 150])
def test_alike_scores_are_seldom_called_shifted_and_others_are(count: int, tied: bool) -> None:
    rng = np.random.default_rng(1)
    assert 12 * 12 < EXACT_PAIRS < 150 * 150

    def p_value(by: float) -> float:
        held, fresh = rng.normal(size=count), rng.normal(size=count) + by
        return shift(*(np.round(s, 1 if tied else 9).tolist() for s in (held, fresh))).p_value

    draws = 40 if tied else 200
    called = np.mean([p_value(0) < 0.05 for _ in range(draws)])
    assert called <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert p_value(3) < 0.001
