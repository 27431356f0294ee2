"""The application: an HTTP ingress in front of the model, put together from typed settings.

    serve run serving.app:build alias=champion poll_seconds=10

`python -m serving` does the same with its errors checked first.
"""

from ray import serve
from ray.serve import Application

from serving.ingress import Ingress
from serving.inspector import Inspector
from serving.line import MOST_WAITING
from serving.settings import Settings


def build(settings: Settings) -> Application:
    """The Serve application that `settings` describe."""
    # The replica itself refuses who would wait too long (serving/line.py), and answers about its health beside that: so
    # Serve lets more in than may wait there.
    inspector = serve.deployment(
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=2 * MOST_WAITING,
        max_queued_requests=MOST_WAITING,
    )(Inspector)
    # Wide enough for many slow uploads: what is refused here is refused by Serve's proxy, and not in JSON.
    ingress = serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000, max_queued_requests=1000)(
        Ingress
    )
    application: Application = ingress.bind(inspector.bind(settings), settings)
    return application
