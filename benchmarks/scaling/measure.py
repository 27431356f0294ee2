"""How training scales: two workers against one, and what a GPU makes of encoder and trained part.

python -m benchmarks.scaling [--peak-tflops 989]

Workers: processes of one thread each share every batch of features from a store, as in a training, with gloo; the
two cases are run in turn, and the efficiency is half the ratio of their speeds. GPU, when there is one: ViT-B/14 at
448/392 pixels with random weights (speed does not depend on them): images/s of the encoder, and of the trained part
step time, memory and model FLOPs utilisation, the share that the step's counted operations have of the peak.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stored import store_table
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.features.objects import Folder
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views
from inpformer.methods.inp_former.network import INPFormer, ModelShape
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.optim import StableAdamW
from inpformer.training.step import train_step

BATCH, STEPS, PAIRS = 16, 8, 3
# What the demo trains on: 128 channels, four levels, 16×16 tokens, 6 prototypes.
SMALL = ModelShape(128, 4, 4, 6)
TOKENS = 256
VIT = "vit_base_patch14_reg4_dinov2.lvd142m"
ENCODE_BATCH, GPU_STEPS = 32, 30


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak-tflops", type=float, default=989, help="of the GPU, bfloat16, dense (H100 SXM: 989)")
    args = parser.parse_args()
    compare_workers()
    if torch.cuda.is_available():
        measure_gpu(args.peak_tflops)


def compare_workers() -> None:
    """Images/s of one worker and of two, in turn."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = FeatureStore(Folder(folder / "store"), "key")
        keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(BATCH * STEPS)]
        for start in range(0, len(keys), BATCH):
            store.add(keys[start : start + BATCH], torch.randn(BATCH, SMALL.groups, TOKENS, SMALL.channels))
        table = store_table(store, keys)
        efficiencies = []
        for _ in range(PAIRS):
            one, two = (run_workers(count, folder, table) for count in (1, 2))
            efficiencies.append(two / one / 2)
            print(f"1 worker {one:6.1f} images/s   2 workers {two:6.1f} images/s   efficiency {two / one / 2:.2f}")
    print(f"median efficiency of 2 workers {statistics.median(efficiencies):.2f}")


def run_workers(count: int, folder: Path, table: str) -> float:
    """Images/s of so many workers."""
    result = folder / "seconds"
    (folder / "meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (count, folder, table, result), nprocs=count)
    return BATCH * STEPS / float(result.read_text())


def work(rank: int, count: int, folder: Path, table: str, result: Path) -> None:
    """One worker: reads its share of each batch and takes the step; the first writes the seconds of one epoch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=count)
    torch.manual_seed(0)
    model = DistributedDataParallel(INPFormer(SMALL))
    optimizer = StableAdamW(model.parameters())
    views = Views(FeatureStore(Folder(folder / "store"), "key"), table)
    share = BATCH // count

    def epoch() -> None:
        for start in range(rank * share, BATCH * STEPS, BATCH):
            train_step(model, optimizer, views.read("train", range(start, start + share)).float(), 1e-4, LossSettings())

    epoch()  # pays for set-up
    dist.barrier()
    began = time.perf_counter()
    epoch()
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
        settings = EncoderSettings(VIT, str(weights), resize=448, crop=392, levels=None, grid=None)
        encoder = load_encoder(settings).to("cuda")
    pixels = torch.randn(ENCODE_BATCH, 3, 392, 392, device="cuda")
    seconds = timed(lambda: encoder.features(pixels))
    print(f"encoder, batch {ENCODE_BATCH}, float32: {ENCODE_BATCH / seconds:.0f} images/s")
    for batch in (16, 64):
        measure_step(encoder, batch, peak_tflops)


def measure_step(encoder: Encoder, batch: int, peak_tflops: float) -> None:
    """One optimiser step in bfloat16 on stored features that are on the GPU already."""
    torch.cuda.reset_peak_memory_stats()
    model = INPFormer(ModelShape(encoder.channels, encoder.heads or 1, encoder.groups, 6)).cuda()
    optimizer = StableAdamW(model.parameters())
    target = torch.randn(batch, encoder.groups, encoder.grid**2, encoder.channels, device="cuda")

    def step() -> None:
        train_step(model, optimizer, target, 1e-4, LossSettings(), autocast=True)

    with FlopCounterMode(display=False) as counted:
        step()
    seconds = timed(step)
    parameters = sum(p.numel() for p in model.parameters())
    tflop = counted.get_total_flops() / 1e12
    print(
        f"training, batch {batch}, bfloat16: {seconds * 1e3:.1f} ms a step, {batch / seconds:.0f} images/s, "
        f"{tflop:.2f} TFLOP a step, MFU {tflop / seconds / peak_tflops:.2f}, "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, {parameters / 1e6:.1f} M parameters, "
        f"{4 * parameters / 1e6:.0f} MB of gradients, {target[0].numel() * 2 / 1e6:.2f} MB of features an image"
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


if __name__ == "__main__":
    main()
