"""The encoder on the machines of a cluster: the driver reads the image files, tasks make features of them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

# First of ours: it silences Ray, which looks at its environment when it is imported.
from pipelines.platform.cluster import cluster, failure, gpus_a_model  # isort: skip

import ray
import ray.exceptions
from tqdm import tqdm

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.features import SHARD_IMAGES
from inpformer.features.store import FeatureStore
from pipelines.features.encode import Pictures, encode_into
from pipelines.platform.bucket import open_objects
from pipelines.platform.weights import load_encoder

# Tasks under way for each GPU, or CPU: one computes while the images of the next travel.
TASKS_AHEAD = 2
MOST_FAILURES = 3  # of a task's machine or process


@lru_cache(maxsize=1)
def held_encoder(settings: EncoderSettings, key: str) -> Encoder:
    """The encoder of this process, loaded for its first task.

    Raises UserError if the weights here are not those of the encoder `key`.
    """
    encoder = load_encoder(settings).to(best_device())
    if encoder.key != key:
        raise UserError(f"the weights of {settings.name} in {settings.weights} differ between driver and workers.")
    return encoder


def encode_images(
    images: list[Pictures],
    settings: EncoderSettings,
    key: str,
    kept: Wants | None,
    place: tuple[str, str],
    batch_size: int,
) -> int:
    """The body of a task: keeps the features of these images in the store, whose address and name there are its
    `place`; returns how many views they were.
    """
    encoder = held_encoder(settings, key)
    address, name = place
    with ThreadPoolExecutor() as pool:
        views = (view for one in pool.map(lambda one: one.encodables(encoder.transform), images) for view in one)
        store = FeatureStore(open_objects(address, 0), name)
        encode_into(store, encoder, kept, views, batch_size, lambda _: None)
    return sum(len(one.keys) for one in images)


def encode_on_cluster(
    images: Iterable[Pictures],
    encoder: Encoder,
    kept: Wants | None,
    store: FeatureStore,
    batch_size: int,
    progress: tqdm,
) -> None:
    """Shares the images out as tasks of a GPU each, or of a CPU if there is none; a few are under way at a time. Each
    loads the encoder as the driver did and writes its shards to the store itself.

    Raises UserError if a task keeps failing.
    """
    with cluster():
        gpus = gpus_a_model()
        options: dict[str, Any] = {"num_cpus": 0 if gpus else 1, "num_gpus": gpus, "max_retries": MOST_FAILURES}
        # Ray would end a process after each task that has a GPU, and the next would load the encoder again.
        task = ray.remote(max_calls=0, **options)(encode_images)
        most = TASKS_AHEAD * max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1)))
        place = (store.objects.address, store.encoder_key)
        pending: list[Any] = []
        try:
            for chunk in _shards(images):
                if len(pending) == most:
                    pending = _finish_one(pending, progress)
                pending.append(task.remote(chunk, encoder.settings, encoder.key, kept, place, batch_size))
            while pending:
                pending = _finish_one(pending, progress)
        except ray.exceptions.RayError as error:
            raise failure("encoding on the cluster", error) from None


def _finish_one(pending: list[Any], progress: tqdm) -> list[Any]:
    """Waits for one task; returns the others."""
    (finished,), others = ray.wait(pending, num_returns=1)
    progress.update(ray.get(finished))
    return list(others)


def _shards(images: Iterable[Pictures]) -> Iterator[list[Pictures]]:
    """Images with about a shard's number of views together."""
    chunk: list[Pictures] = []
    for one in images:
        chunk.append(one)
        if sum(len(image.keys) for image in chunk) >= SHARD_IMAGES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
