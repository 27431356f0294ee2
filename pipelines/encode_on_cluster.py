"""The encoder on the machines of a cluster: the driver reads the image files, actors make features of them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.cluster import cluster, failure, gpus_a_model  # isort: skip

import ray
import ray.exceptions
from tqdm import tqdm

from inpformer.encoder import Encoder, EncoderSettings
from inpformer.errors import UserError
from inpformer.shard import SHARD_IMAGES
from inpformer.store import FeatureStore
from pipelines.bucket import open_objects
from pipelines.devices import best_device
from pipelines.encode import ImageViews, encode_into
from pipelines.weights import load_encoder

# Chunks of images that wait at each actor: one is computed while the next travels.
CHUNKS_AHEAD = 2
MOST_FAILURES = 3


class EncodingActor:
    """Holds an encoder on one GPU, or one CPU, of the cluster."""

    def __init__(self, settings: EncoderSettings, key: str, store: str, batch_size: int) -> None:
        """Raises UserError if the weights there are not those of the encoder `key`."""
        self.encoder = load_encoder(settings).to(best_device())
        if self.encoder.key != key:
            raise UserError(f"the weights of {settings.name} in {settings.weights} differ between driver and workers.")
        self.store = FeatureStore(open_objects(store, 0), key)
        self.batch_size = batch_size

    def encode(self, images: list[ImageViews]) -> int:
        """Keeps the features of these images in the store; returns how many views they were."""
        with ThreadPoolExecutor() as pool:
            pixels = pool.map(lambda one: one.pixels(self.encoder.transform), images)
            encode_into(
                self.store, self.encoder, (view for views in pixels for view in views), self.batch_size, lambda _: None
            )
        return sum(len(one.keys) for one in images)


def encode_on_cluster(
    images: Iterable[ImageViews], encoder: Encoder, store: str, batch_size: int, progress: tqdm
) -> None:
    """Shares the images out among one actor a GPU, or a CPU if there is none; a few chunks are under way at a time.
    Each loads the encoder as the driver did and writes its shards to the address `store` itself.

    Raises UserError if an actor keeps failing.
    """
    with cluster():
        gpus = gpus_a_model()
        count = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
        actor = ray.remote(EncodingActor).options(
            num_cpus=0 if gpus else 1, num_gpus=gpus, max_restarts=MOST_FAILURES, max_task_retries=MOST_FAILURES
        )
        idle: list[Any] = [
            actor.remote(encoder.settings, encoder.key, store, batch_size) for _ in range(count)
        ] * CHUNKS_AHEAD
        pending: dict[Any, Any] = {}
        try:
            for chunk in _shards(images):
                if not idle:
                    idle.append(_finish_one(pending, progress))
                worker = idle.pop()
                pending[worker.encode.remote(chunk)] = worker
            while pending:
                _finish_one(pending, progress)
        except ray.exceptions.RayError as error:
            raise failure("encoding on the cluster", error) from None


def _finish_one(pending: dict[Any, Any], progress: tqdm) -> Any:
    """Waits for one chunk; returns the actor that is free again."""
    (finished,), _ = ray.wait(list(pending), num_returns=1)
    progress.update(ray.get(finished))
    return pending.pop(finished)


def _shards(images: Iterable[ImageViews]) -> Iterator[list[ImageViews]]:
    """Images with about a shard's number of views together."""
    chunk: list[ImageViews] = []
    for one in images:
        chunk.append(one)
        if sum(len(image.keys) for image in chunk) >= SHARD_IMAGES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
