"""The application: an HTTP ingress in front of the model, put together from typed settings.

    serve run serving.app:build alias=champion poll_seconds=10

`python -m serving` does the same with its errors checked first.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from serving.answers import LATEST_DEADLINE_MS
from serving.ingress import Ingress
from serving.inspector import Inspector
from serving.line import MOST_WAITING
from serving.settings import Settings

HEALTH_CHECK_SECONDS = 3.0  # a replica is replaced after it failed three times
# A replica that is taken away answers what it has let in: it has so many seconds, and looks as often.
STOPPING: dict[str, Any] = {
    "graceful_shutdown_timeout_s": LATEST_DEADLINE_MS / 1000 + 5,
    "graceful_shutdown_wait_loop_s": 0.2,
}


def build(settings: Settings) -> Application:
    """The Serve application that `settings` describe."""
    # The replica itself refuses who would wait too long (serving/line.py), and answers about its health beside that: so
    # Serve lets more in than may wait there.
    inspector = serve.deployment(
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=2 * MOST_WAITING,
        health_check_period_s=HEALTH_CHECK_SECONDS,
        max_queued_requests=MOST_WAITING,
        **STOPPING,
    )(Inspector)
    # Wide enough for many slow uploads: what is refused here is refused by Serve's proxy, and not in JSON.
    ingress = serve.deployment(
        ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000, max_queued_requests=1000, **STOPPING
    )(Ingress)
    application: Application = ingress.bind(inspector.bind(settings), settings)
    return application
