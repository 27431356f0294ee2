"""A small run of `python -m benchmarks.serving --hostile` against the service."""

import httpx

from benchmarks.serving.bodies import KINDS, Target
from benchmarks.serving.hostile import Found, send_all
from tests.serving.model_store import MODEL


def test_what_hostile_clients_send_is_refused_and_good_pictures_are_judged(service: httpx.Client) -> None:
    found, each = Found(), 4
    send_all(str(service.base_url).rstrip("/"), Target(MODEL, "bolt"), range(each * len(KINDS)), 0, found)
    assert found.wrong == []
    assert found.counts["good"] == {"2xx": each}
    assert {kind: sum(counts.values()) for kind, counts in found.counts.items()} == {k.__name__: each for k in KINDS}
    assert service.get("/readyz").status_code == 200
