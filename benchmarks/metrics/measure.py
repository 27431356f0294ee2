"""Values and seconds of both sides."""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from anomalib.metrics import AUPIMO, AUPRO
from numpy.typing import NDArray
from scipy import ndimage

from inpformer.metrics.aupimo import AupimoStream
from inpformer.metrics.pixel import pixel_metrics

SIZE = 256
ANOMALOUS = 0.3
THRESHOLDS = (300_000, 30_000)
FIELDS = ("anomaly_map", "gt_mask")


def made_up(images: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps [images, 256, 256] and masks of that shape."""
    rng = np.random.default_rng(seed)
    maps = np.empty((images, SIZE, SIZE), np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for anomaly_map, mask in zip(maps, masks, strict=True):
        noise = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 6)
        anomaly_map[:] = 0.3 + 0.05 * noise / noise.std()
        if rng.random() < ANOMALOUS:
            for _ in range(rng.integers(1, 4)):
                (y, x), radius = rng.integers(30, SIZE - 30, 2), rng.uniform(4, 25)
                distance = np.hypot((rows - y) * rng.uniform(0.7, 1.4), columns - x)
                mask |= distance < radius
                # Its trace in the map is blurred, and a little larger or smaller than itself.
                beside = (distance + rng.normal(scale=3)) / radius
                anomaly_map += np.float32(rng.uniform(0.05, 0.4)) * np.exp(-(beside**2))
    return maps, masks


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """What `call` returns, and its seconds."""
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def our_aupimo(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    """The mean over the anomalous images."""
    with AupimoStream() as stream:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            stream.add(anomaly_map, mask)
        return stream.result().mean


def their(metric: AUPRO | AUPIMO, maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    """The value of one of anomalib's metrics."""
    metric.update(SimpleNamespace(anomaly_map=torch.from_numpy(maps), gt_mask=torch.from_numpy(masks)))
    return float(metric.compute())


def report(name: str, ours: tuple[float, float], theirs: tuple[float, float]) -> None:
    """Prints one comparison of values and seconds."""
    (our_value, our_seconds), (their_value, their_seconds) = ours, theirs
    print(
        f"{name}: ours {our_value:.9f} in {our_seconds:.2f} s, anomalib's {their_value:.9f} in {their_seconds:.2f} s,"
    )
    print(f"    ratio {their_seconds / our_seconds:.1f}, difference {our_value - their_value:+.1e}", flush=True)


def run(images: int, aupimo_images: int, seed: int) -> None:
    """Prints times, ratios and differences."""
    maps, masks = made_up(images, seed)
    print(", ".join(f"{name} {version(name)}" for name in ("anomalib", "torch", "numpy", "scipy")))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads; {images} maps {SIZE}×{SIZE}", flush=True)
    ours = timed(lambda: pixel_metrics(maps, masks).aupro)
    report("AUPRO", ours, timed(lambda: their(AUPRO(fields=FIELDS), maps, masks)))
    maps, masks = maps[:aupimo_images], masks[:aupimo_images]
    ours = timed(lambda: our_aupimo(maps, masks))
    for thresholds in THRESHOLDS:
        theirs = timed(lambda t=thresholds: their(AUPIMO(num_thresholds=t, fields=FIELDS), maps, masks))
        report(f"AUPIMO, {len(maps)} maps, {thresholds} thresholds of anomalib's", ours, theirs)
