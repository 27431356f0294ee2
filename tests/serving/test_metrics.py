"""What Prometheus is told: counters of replicas put together, and names from outside that must not pile up."""

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from serving.answers import Doubt
from serving.metrics import MOST_LINES, OTHER_LINES, JudgingMetrics, OfReplica, RequestMetrics, exposition
from tests.serving.pictures import verdict


def found(*replicas: OfReplica) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(exposition(replicas).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def counted(metrics: JudgingMetrics | RequestMetrics, name: str = "r") -> OfReplica:
    return OfReplica(name, list(metrics.registry.collect()))


def test_one_family_holds_the_samples_of_all_replicas() -> None:
    replicas = []
    for number in (1, 2):
        registry = CollectorRegistry()
        Counter("things", "Things.", ["kind"], registry=registry).labels("a").inc(number)
        replicas.append(OfReplica(f"r{number}", list(registry.collect())))
    text = exposition(replicas).decode()
    assert text.count("# TYPE things_total counter") == 1
    assert found(*replicas) == {
        ("things_total", (("kind", "a"), ("replica", f"r{number}"))): float(number) for number in (1, 2)
    }


def test_lines_that_nobody_knows_share_a_name_from_some_number_on() -> None:
    metrics = JudgingMetrics()
    for number in range(2 * MOST_LINES):
        metrics.judged(verdict(line=f"line-{number}"))
    metrics.judged(verdict(line="line-0"))
    lines = {
        dict(labels)["line"]: value
        for (name, labels), value in found(counted(metrics)).items()
        if name == "inpformer_decisions_total"
    }
    assert len(lines) == MOST_LINES + 1
    assert (lines["line-0"], lines[OTHER_LINES]) == (2.0, float(MOST_LINES))


def test_scores_are_multiples_of_the_threshold_and_of_one_of_zero_none_is_counted() -> None:
    metrics = JudgingMetrics()
    metrics.judged(verdict())
    metrics.judged(verdict(threshold=0.0, doubt=Doubt(reason="x", times=2.0, likelier=None)))
    metrics.stands(waiting=3, version=7, failed=True)
    values = {(name, *dict(labels).values()): value for (name, labels), value in found(counted(metrics)).items()}
    assert values[("inpformer_score_to_threshold_count", "nut", "r")] == 1
    assert values[("inpformer_score_to_threshold_sum", "nut", "r")] == 0.5
    assert values[("inpformer_phase_seconds_sum", "model", "r")] == 0.6
    assert values[("inpformer_doubts_total", "nut", "r")] == 1
    state = [values[(f"inpformer_{name}", "r")] for name in ("line_length", "model_version", "update_failed")]
    assert state == [3, 7, 1]


def test_a_client_that_went_is_counted_and_no_longer_under_way() -> None:
    metrics = RequestMetrics()
    with metrics.request():
        assert metrics.under_way == 1
    values = found(counted(metrics))
    assert values[("inpformer_requests_total", (("replica", "r"), ("status", "499")))] == 1
    assert values[("inpformer_requests_under_way", (("replica", "r"),))] == 0
