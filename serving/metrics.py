"""What Prometheus is told: each replica counts for itself, and the answer has them all, each with its name."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from ray import serve

from serving.answers import Verdict

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
TIMES_THRESHOLD = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
# Names of lines come from outside, and each is kept for good.
MOST_LINES, OTHER_LINES = 64, "other"
# Of a client that went before its answer, as nginx writes it.
GONE = 499
disable_created_metrics()


@dataclass(frozen=True)
class OfReplica:
    """What one replica counted."""

    replica: str
    metrics: list[Metric]


class RequestMetrics:
    """Of the requests to judge a picture that an Ingress replica answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "inpformer_requests",
            "Requests to judge a picture, by the status of their answer.",
            ["status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "inpformer_request_seconds",
            "From the headers of a request to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        gauge = Gauge("inpformer_requests_under_way", "Requests that have no answer yet.", registry=self.registry)
        gauge.set_function(lambda: self.under_way)
        self.under_way = 0

    @contextmanager
    def request(self) -> Iterator["Answer"]:
        """Around one request."""
        answer = Answer()
        self.under_way += 1
        with self._seconds.time():
            try:
                yield answer
            finally:
                self.under_way -= 1
                self._answers.labels(answer.status).inc()


@dataclass
class Answer:
    """The status that a request got."""

    status: int = GONE


class JudgingMetrics:
    """Of the pictures that an Inspector replica judges."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "inpformer_decisions",
            "Decisions, by category and line.",
            ["category", "decision", "line"],
            registry=self.registry,
        )
        self._doubts = Counter(
            "inpformer_doubts",
            "Pictures that look like no good part of their category.",
            ["category"],
            registry=self.registry,
        )
        self._scores = Histogram(
            "inpformer_score_to_threshold",
            "Image scores, as multiples of the threshold of their category.",
            ["category"],
            buckets=TIMES_THRESHOLD,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "inpformer_phase_seconds",
            "What a picture took: waiting, its decoding, the model.",
            ["phase"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waiting = Gauge("inpformer_line_length", "Pictures in the line before the model.", registry=self.registry)
        self._version = Gauge("inpformer_model_version", "The version that judges.", registry=self.registry)
        self._failed = Gauge(
            "inpformer_update_failed",
            "1 where the last look at the registry, or the last load of a version, failed.",
            registry=self.registry,
        )
        self._lines: set[str] = set()

    def judged(self, verdict: Verdict) -> None:
        """One picture."""
        line = verdict.line or ""
        if line not in self._lines and len(self._lines) >= MOST_LINES:
            line = OTHER_LINES
        self._lines.add(line)
        self._decisions.labels(verdict.category, verdict.decision, line).inc()
        if verdict.doubt:
            self._doubts.labels(verdict.category).inc()
        if verdict.threshold > 0:
            self._scores.labels(verdict.category).observe(verdict.score / verdict.threshold)
        for phase, milliseconds in verdict.timings_ms:
            self._seconds.labels(phase).observe(milliseconds / 1000)

    def stands(self, waiting: int, version: int, failed: bool) -> None:
        """How things are when somebody asks."""
        self._waiting.set(waiting)
        self._version.set(version)
        self._failed.set(failed)


def of_replica(registry: CollectorRegistry) -> OfReplica:
    """What the replica that this is called in counted."""
    return OfReplica(serve.get_replica_context().replica_id.unique_id, list(registry.collect()))


def exposition(replicas: Collection[OfReplica]) -> bytes:
    """All of them in Prometheus's text format, each sample with the label `replica`."""
    together = CollectorRegistry()
    together.register(_Merged(replicas))
    return generate_latest(together)


class _Merged(Collector):
    def __init__(self, replicas: Collection[OfReplica]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for one in self._replicas:
            for metric in one.metrics:
                family = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [
                    Sample(sample.name, {**sample.labels, "replica": one.replica}, sample.value)
                    for sample in metric.samples
                ]
        return merged.values()
