"""Steps of INP-Former, by phase; and those of its parts that could be done otherwise."""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._inductor.utils import fresh_cache
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.epoch.measure import begun
from benchmarks.stored import Stored, store_table
from inpformer.devices import device_name
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.errors import UserError
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.methods.base import Train
from inpformer.methods.inp_former.losses import losses
from inpformer.methods.inp_former.network import INPFormer, NetworkShape
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.nn.optim import StableAdamW
from inpformer.nn.projection import Projection
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings

BATCH = 16
# The bundled encoder's levels at 320 pixels.
BUNDLED_AT_320 = EncoderShape((Level(40, 40), Level(20, 112)), None)
# The network for a ViT-B.
PAPER = NetworkShape(channels=768, heads=12, groups=2, num_prototypes=6)
EPOCH = "epoch"
READ, TO_DEVICE, GRID = "wait for rows", "to the device", "to one grid"
PROJECTION, FORWARD, BACKWARD = "projection", "forward and losses", "backward"
CLIP, OPTIMISER = "clip", "optimiser"
# In the order of a step, each with the phase that is called within it.
PHASES = {
    READ: None,
    TO_DEVICE: GRID,
    GRID: None,
    PROJECTION: None,
    FORWARD: PROJECTION,
    BACKWARD: None,
    CLIP: None,
    OPTIMISER: None,
}
OPERATORS = 8


def run(device: str, steps: int) -> None:
    """Raises UserError if the machine has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("this machine has no CUDA device: use --device cpu.")
    with tempfile.TemporaryDirectory() as temporary:
        loop = begun(LoopConfig(settings(), BUNDLED_AT_320, made_up(Path(temporary), steps)), torch.device(device))
        threads = f", threads: {torch.get_num_threads()}" if device == "cpu" else ""
        print(f"{device_name(loop.device)}{threads}, torch {torch.__version__}, batch {BATCH}, {steps} steps")
        began = time.perf_counter()
        loop.advance()
        print(f"as it is: {(time.perf_counter() - began) * 1e3 / steps:.1f} ms a step")
        print_profile(profiled(loop), steps)
    for network in (network_of(loop), INPFormer(PAPER).to(device)):
        compare_optimisers(network, steps)
    compare_compiled(loop, steps)


def settings() -> TrainSettings:
    """The defaults, for more epochs than are run."""
    return TrainSettings(batch_size=BATCH, own=InpFormerSettings())


def made_up(folder: Path, steps: int) -> Stored:
    """A store of random features for so many steps."""
    store = FeatureStore(Folder(folder), "key")
    keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(BATCH * steps)]
    for start in range(0, len(keys), BATCH):
        noise = [torch.randn(BATCH, level.tokens, level.channels) for level in BUNDLED_AT_320.levels]
        store.add(keys[start : start + BATCH], noise)
    return Stored(store, store_table(store, keys))


# ---- by phase


def profiled(loop: TrainingLoop) -> EventList:
    """What torch's profiler saw of an epoch, with the phases by name."""
    with labelled(loop), profile(activities=[ProfilerActivity.CPU]) as seen:
        under(EPOCH, loop.advance)()
    averages: EventList = seen.key_averages()
    return averages


@contextmanager
def labelled(loop: TrainingLoop) -> Iterator[None]:
    """Puts the names of the phases on what a step calls."""
    places = [
        (Future, "result", READ),
        (loop, "_groups", TO_DEVICE),
        (Wants, "of", GRID),
        (Projection, "forward", PROJECTION),
        (Tensor, "backward", BACKWARD),
        (nn.utils, "clip_grad_norm_", CLIP),
        (loop.optimizer, "step", OPTIMISER),
    ]
    phases = [replace(one, loss=under(FORWARD, one.loss)) if isinstance(one, Train) else one for one in loop.phases]
    with ExitStack() as stack:
        for owner, name, label in places:
            stack.enter_context(patch.object(owner, name, under(label, getattr(owner, name))))
        stack.enter_context(patch.object(loop, "phases", phases))
        yield


def under(label: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` under a name that the profiler knows, with what it leaves a GPU to do."""

    def named(*args: Any, **options: Any) -> Any:
        with record_function(label):
            result = work(*args, **options)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return result

    return named


def print_profile(seen: EventList, steps: int) -> None:
    """The phases' and the heaviest operators' times a step, and their shares of it."""
    took = {event.key: event.cpu_time_total for event in seen}
    whole = took[EPOCH]
    own = {name: took[name] - took.get(within or "", 0) for name, within in PHASES.items()}
    own["all else"] = whole - sum(own.values())
    operators = sorted(
        (event for event in seen if event.key.startswith("aten::")),
        key=lambda event: event.self_cpu_time_total,
        reverse=True,
    )
    print_shares("phase", own, whole, steps)
    heaviest = {event.key: event.self_cpu_time_total for event in operators[:OPERATORS]}
    print_shares("operator", heaviest, whole, steps)


def print_shares(what: str, took: Mapping[str, float], whole: float, steps: int) -> None:
    """A table; times in microseconds."""
    print(f"\n| {what} | ms a step | share |\n|---|---|---|")
    for name, time_taken in took.items():
        print(f"| {name} | {time_taken / steps / 1e3:.1f} | {time_taken / whole:.1%} |")


# ---- alternatives


def compare_optimisers(network: INPFormer, steps: int) -> None:
    """StableAdamW tensor by tensor, and all at once."""
    apart, together = (begun_optimiser(network) for _ in range(2))

    def all_at_once() -> None:
        (group,) = together.param_groups
        together._update(group["params"], group)

    def tensor_by_tensor() -> None:
        (group,) = apart.param_groups
        for one in group["params"]:
            apart._update([one], group)

    with torch.no_grad():
        times = in_turn({"tensor by tensor": tensor_by_tensor, "all at once": all_at_once}, steps)
    millions = sum(one.numel() for one in network.parameters()) / 1e6
    print_ratio(f"StableAdamW, {millions:.1f} million parameters", times)


def begun_optimiser(network: INPFormer) -> StableAdamW:
    """That of a copy of the network, with gradients, after its first step."""
    copied = deepcopy(network)
    for parameter in copied.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = StableAdamW(copied.parameters())
    optimizer.step()
    return optimizer


def network_of(loop: TrainingLoop) -> INPFormer:
    """What is trained."""
    (network,) = (one.network for one in loop.phases if isinstance(one, Train))
    assert isinstance(network, INPFormer)
    return network


def compare_compiled(loop: TrainingLoop, steps: int) -> None:
    """The network's forward and backward as they are, and compiled."""
    network = network_of(loop)
    compiled = torch.compile(network, dynamic=False)
    grid, channels = InpFormerSettings().grid, network.shape.channels
    assert grid is not None
    target = torch.randn(BATCH, 1, grid**2, channels, device=loop.device)

    def step(forward: Callable[..., Any]) -> None:
        with torch.autocast(loop.device.type, torch.bfloat16, enabled=loop.device.type == "cuda"):
            output = forward(target)
        losses(output, InpFormerSettings().losses).total.backward()
        network.zero_grad()

    with fresh_cache():
        began = time.perf_counter()
        step(compiled)
        compilation = time.perf_counter() - began
        times = in_turn({"as it is": lambda: step(network), "compiled": lambda: step(compiled)}, steps)
    print_ratio("forward and backward", times)
    before, after = (statistics.median(one) for one in times.values())
    paid = f"paid back after {compilation / (before - after):.0f} steps" if after < before else "never paid back"
    print(f"compilation: {compilation:.0f} s, {paid}")


def in_turn(works: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, run in turn, so that ratios hold on a machine whose speed drifts."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - began)
    return times


def print_ratio(what: str, times: Mapping[str, list[float]]) -> None:
    """The medians of two alternatives, and the median of the ratios of one round."""
    (before, after), (first, second) = times.values(), times
    ratio = statistics.median(two / one for one, two in zip(before, after, strict=True))
    before_ms, after_ms = (statistics.median(one) * 1e3 for one in (before, after))
    print(f"\n{what}: {first} {before_ms:.1f} ms, {second} {after_ms:.1f} ms, median ratio {ratio:.2f}")
