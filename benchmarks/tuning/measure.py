"""A search as a command, and a training without a store in this process."""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.stored import Encoded
from demo.data.render import generate
from demo.settings import DemoData
from inpformer.devices import best_device
from inpformer.encoders.encoder import load_encoder
from inpformer.methods.base import Train
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.features.index import read_index
from pipelines.manifest.table import read_manifest

ROOT = Path(__file__).resolve().parents[2]
TIMED_EPOCHS = 3
INPUTS = ("--manifest", "manifest.parquet", "--features", "features.json")


def run(folder: Path, train_images: int, epochs: int, trials: int) -> None:
    """Makes the data, times both sides and prints them."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    generate(DemoData(train_images=train_images, test_images=6), folder / "data")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["manifest"]["data"], params["features"]["store"] = str(folder / "data"), str(folder / "store")
    params["train"] |= {"storage": str(folder / "runs")}
    params["train"]["inp_former"] |= {"epochs": epochs, "warmup": 10}
    params["tune"] |= {"grace": max(1, epochs // 16)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    stage(folder, "manifest", "--data", str(folder / "data"), "--out", "manifest.parquet")
    stage(folder, "features", "--manifest", "manifest.parquet", "--out", "features.json")
    alone, (only,) = search(folder, params, trials=1, epochs=1, grace=1)
    start_up = alone - float(only["seconds"])
    encoded = encode_every_epoch(folder, params["train"])
    seconds, done = search(folder, params, trials=trials)
    encoded += encode_every_epoch(folder, params["train"])
    training = epochs * statistics.mean(encoded)
    epochs_done = sum(int(trial["epochs"]) for trial in done)
    images = len(read_manifest(folder / "manifest.parquet").split("train"))
    print(f"{images} training images of 256 pixels, {epochs} epochs, {os.cpu_count()} CPUs, {best_device()}")
    print(f"a training that encodes each epoch {training:7.1f} s ({min(encoded):.2f} to {max(encoded):.2f} an epoch)")
    print(f"a search: {len(done)} trials, {epochs_done} epochs  {seconds:7.1f} s, of which start-up {start_up:.1f} s")
    print(f"ratio {seconds / training:.2f}, without start-up {(seconds - start_up) / training:.2f}")


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
    seconds = stage(folder, "tune", *INPUTS, "--out", "winner.json", "--report", "report")
    with (folder / "report/trials.csv").open(newline="") as table:
        return seconds, list(csv.DictReader(table))


def encode_every_epoch(folder: Path, train: dict[str, Any]) -> list[float]:
    """Seconds of each of some epochs of a training without a store. Fitting, and the first epoch, which pays for
    set-up, are not timed.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    manifest, index = read_manifest(folder / "manifest.parquet"), read_index(folder / "features.json")
    encoder = load_encoder(index.encoder).to(best_device())
    files = [manifest.root / row.path for row in manifest.split("train")]
    settings = TrainSettings.from_table(train, "params.yaml: train")
    settings = replace(settings, own=replace(settings.own, epochs=1 + TIMED_EPOCHS))
    loop = TrainingLoop(LoopConfig(settings, encoder.shape, Encoded(encoder, files)), encoder.device)
    while not isinstance(loop.phases[loop.progress.phase], Train):
        loop.advance()
    seconds = []
    for _ in range(1 + TIMED_EPOCHS):
        began = time.perf_counter()
        loop.advance()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]
