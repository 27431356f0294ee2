"""Images/s of one and of two workers, and of a GPU."""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stored import Stored, store_table
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.methods.base import Train
from inpformer.methods.inp_former.settings import InpFormerSettings
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from inpformer.training.step import train_step

BATCH = 16
# The bundled encoder's levels at 256 pixels.
SMALL = EncoderShape((Level(64, 24), Level(32, 40), Level(16, 112), Level(8, 320)), None)
VIT = "vit_base_patch14_reg4_dinov2.lvd142m"
ENCODE_BATCH, GPU_STEPS = 32, 30


def run(steps: int, pairs: int, peak_tflops: float) -> None:
    """Workers, then the GPU if there is one."""
    compare_workers(steps, pairs)
    if torch.cuda.is_available():
        measure_gpu(peak_tflops)


def compare_workers(steps: int, pairs: int) -> None:
    """Images/s of one worker and of two, in turn."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = FeatureStore(Folder(folder / "store"), "key")
        keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(BATCH * steps)]
        for start in range(0, len(keys), BATCH):
            noise = [torch.randn(BATCH, level.tokens, level.channels) for level in SMALL.levels]
            store.add(keys[start : start + BATCH], noise)
        settings = TrainSettings(batch_size=BATCH, own=InpFormerSettings(epochs=2))
        config = LoopConfig(settings, SMALL, Stored(store, store_table(store, keys)))
        efficiencies = []
        for _ in range(pairs):
            one, two = (BATCH * steps / run_workers(count, folder, config) for count in (1, 2))
            efficiencies.append(two / one / 2)
            print(f"1 worker {one:6.1f} images/s   2 workers {two:6.1f} images/s   efficiency {two / one / 2:.2f}")
    print(f"median efficiency of 2 workers {statistics.median(efficiencies):.2f}")


def run_workers(count: int, folder: Path, config: LoopConfig) -> float:
    """Seconds of an epoch of so many workers."""
    result = folder / "seconds"
    (folder / "meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (count, folder, config, result), nprocs=count)
    return float(result.read_text())


def work(rank: int, count: int, folder: Path, config: LoopConfig, result: Path) -> None:
    """One worker; the first writes the seconds of one epoch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=count)
    loop = TrainingLoop(config, torch.device("cpu"), rank, count, DistributedDataParallel)
    while not isinstance(loop.phases[loop.progress.phase], Train):
        loop.advance()
    loop.advance()  # the first epoch pays for set-up
    dist.barrier()
    began = time.perf_counter()
    loop.advance()
    dist.barrier()
    if rank == 0:
        result.write_text(str(time.perf_counter() - began))
    dist.destroy_process_group()


def measure_gpu(peak_tflops: float) -> None:
    """The encoder's and the trained part's figures on the GPU."""
    print(f"{torch.cuda.get_device_name()}, {VIT} at 448/392")
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "random.safetensors"
        save_file(timm.create_model(VIT, num_classes=0).state_dict(), weights)
        settings = EncoderSettings(VIT, str(weights), resize=448, crop=392, levels=None)
        encoder = load_encoder(settings).to("cuda")
    pixels = torch.randn(ENCODE_BATCH, 3, 392, 392, device="cuda")
    seconds = timed(lambda: encoder.features(pixels))
    print(f"encoder, batch {ENCODE_BATCH}, float32: {ENCODE_BATCH / seconds:.0f} images/s")
    for batch in (16, 64):
        measure_step(encoder, batch, peak_tflops)


def measure_step(encoder: Encoder, batch: int, peak_tflops: float) -> None:
    """One optimiser step in bfloat16 on stored features that are on the GPU already."""
    torch.cuda.reset_peak_memory_stats()
    settings = TrainSettings(batch_size=batch, own=InpFormerSettings(grid=None, channels=None))
    model = settings.kind.make(settings.own, encoder.shape).to("cuda")
    (phase,) = (one for one in model.phases() if isinstance(one, Train))
    optimizer = phase.optimizer(phase.network.parameters())
    shapes = settings.kind.wants(settings.own, encoder.shape).shapes(encoder.shape.levels)
    groups = [torch.randn(batch, shape.tokens, shape.channels, device="cuda") for shape in shapes]

    def forward(*inputs: Any) -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return phase.network(*inputs)

    def step() -> None:
        train_step(phase.network, optimizer, lambda: phase.loss(forward, groups, None, ()), 1e-4, phase.clip)

    with FlopCounterMode(display=False) as counted:
        step()
    seconds = timed(step)
    parameters = sum(p.numel() for p in phase.network.parameters())
    tflop = counted.get_total_flops() / 1e12
    features = 2 * sum(level.tokens * level.channels for level in shapes)
    print(
        f"training, batch {batch}, bfloat16: {seconds * 1e3:.1f} ms a step, {batch / seconds:.0f} images/s, "
        f"{tflop:.2f} TFLOP a step, MFU {tflop / seconds / peak_tflops:.2f}, "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, {parameters / 1e6:.1f} M parameters, "
        f"{4 * parameters / 1e6:.0f} MB of gradients, {features / 1e6:.2f} MB of features an image"
    )


def timed(work: Callable[[], object]) -> float:
    """Median seconds of a call, set-up left out."""
    times = []
    for _ in range(GPU_STEPS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:])
