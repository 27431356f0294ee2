"""What a search costs: its trials, from stored features, against one training that encodes its images every epoch.

python -m benchmarks.tuning FOLDER [--train-images 40] [--epochs 16] [--trials 16]

Makes the demo's data in FOLDER and runs manifest and features. Then `python -m pipelines.tune` is timed from start to
end: imports, start of Ray, judged pictures, trials, plots. The other side is timed in this process: one training as the
reference does it, whose batches are read, decoded and encoded in each epoch, on all cores; without validation and
without any start-up. Some of its epochs are timed, before and after the search, and their mean is taken for all. Both
have the same number of epochs, much fewer than a real one has, so that start-up weighs more here. It is stated apart:
the same command with one trial of one epoch, less what this trial took itself.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.epoch import epoch
from demo.data import generate
from demo.settings import DemoData
from inpformer.encoders.encoder import load_encoder
from inpformer.images.transform import read_image
from inpformer.training.loop import TrainingLoop
from inpformer.training.settings import TrainSettings
from inpformer.training.step import train_step
from pipelines.features.index import read_index
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.table import read_manifest
from pipelines.platform.devices import best_device
from pipelines.training.features import training_features
from pipelines.training.job import Job

ROOT = Path(__file__).resolve().parents[1]
TIMED_EPOCHS = 3
INPUTS = ("--manifest", "manifest.parquet", "--features", "features.json")


def stage(folder: Path, name: str, *arguments: str) -> float:
    """Seconds that a stage of the pipeline takes as a command in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"pipelines.{name}", *arguments], cwd=folder, env=environment, check=True)
    return time.perf_counter() - began


def search(folder: Path, params: dict[str, Any], **changed: int) -> tuple[float, list[dict[str, str]]]:
    """Seconds of a search, and its table."""
    values = {**params, "tune": {**params["tune"], **changed}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    seconds = stage(folder, "tune", *INPUTS, "--out", "tuned.json", "--report", "report")
    with (folder / "report/trials.csv").open(newline="") as table:
        return seconds, list(csv.DictReader(table))


def encode_every_epoch(folder: Path, params: dict[str, Any]) -> list[float]:
    """Seconds of each of some epochs of a training without a store; the projection is fitted beforehand, untimed."""
    torch.set_num_threads(os.cpu_count() or 1)
    manifest, index = read_manifest(folder / "manifest.parquet"), read_index(folder / "features.json")
    device = best_device()
    train = TrainSettings(epochs=params["train"]["epochs"])
    encoder = load_encoder(index.encoder)
    stored = training_features(FeatureSettings(store=params["features"]["store"]), index)
    loop = TrainingLoop(Job(manifest, index, encoder, train, stored, None, "benchmark").loop(), device)  # type: ignore[arg-type]
    loop.start()
    encoder.to(device)
    files = [manifest.root / row.path for row in manifest.split("train")]
    size = train.batch_size
    batches = [files[start : start + size] for start in range(0, len(files) - size + 1, size)]

    def step(features: Tensor) -> None:
        target = features.float() if loop.projection is None else loop.projection(features)
        train_step(loop.model, loop.optimizer, target, train.lr, train.losses, autocast=device.type == "cuda")

    fetched = [lambda b=b: encoder.encode([read_image(file) for file in b]) for b in batches]
    epoch(fetched[:1], step, device)  # the first step pays for set-up
    return [epoch(fetched, step, device) for _ in range(TIMED_EPOCHS)]


def main() -> None:
    """Prints both sides, their ratio, and what start-up is of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train-images", type=int, default=40, help="a category, of three")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--trials", type=int, default=16)
    args = parser.parse_args()
    folder = args.folder.resolve()
    shutil.rmtree(folder / "data", ignore_errors=True)
    generate(DemoData(train_images=args.train_images, test_images=6), folder / "data")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["manifest"]["data"], params["features"]["store"] = str(folder / "data"), str(folder / "store")
    params["train"] |= {"epochs": args.epochs, "warmup": 10, "storage": str(folder / "runs")}
    params["tune"] |= {"grace": max(1, args.epochs // 16)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    stage(folder, "manifest", "--data", str(folder / "data"), "--out", "manifest.parquet")
    stage(folder, "features", "--manifest", "manifest.parquet", "--out", "features.json")
    alone, (only,) = search(folder, params, trials=1, epochs=1, grace=1)
    start_up = alone - float(only["seconds"])
    encoded = encode_every_epoch(folder, params)
    seconds, trials = search(folder, params, trials=args.trials)
    encoded += encode_every_epoch(folder, params)
    training = args.epochs * statistics.mean(encoded)
    done = sum(int(trial["epochs"]) for trial in trials)
    images = len(read_manifest(folder / "manifest.parquet").split("train"))
    print(f"{images} training images of 256 pixels, {args.epochs} epochs, {os.cpu_count()} CPUs, {best_device()}")
    print(f"a training that encodes each epoch {training:7.1f} s ({min(encoded):.2f} to {max(encoded):.2f} an epoch)")
    print(f"a search: {len(trials)} trials, {done} epochs  {seconds:7.1f} s, of which start-up {start_up:.1f} s")
    print(f"ratio {seconds / training:.2f}, without start-up {(seconds - start_up) / training:.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
