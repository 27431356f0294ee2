"""The application: an HTTP ingress in front of the model, put together from typed settings.

    serve run serving.app:build alias=champion poll_seconds=10

`python -m serving` does the same with its errors checked first.
"""

from ray import serve
from ray.serve import Application

from serving.ingress import Ingress
from serving.inspector import Inspector
from serving.settings import Settings


def build(settings: Settings) -> Application:
    """The Serve application that `settings` describe."""
    # Of the four requests in progress three are decoded or answered while one has the model. Beyond 64 that wait,
    # a client hears 503 at once: an answer from the end of that queue would come too late for a line anyway.
    inspector = serve.deployment(
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=4,
        max_queued_requests=64,
    )(Inspector)
    # Wide enough that the model's own queue fills first: its refusals are JSON, those of Serve's proxy are not.
    ingress = serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100, max_queued_requests=100)(
        Ingress
    )
    application: Application = ingress.bind(inspector.bind(settings), settings)
    return application
