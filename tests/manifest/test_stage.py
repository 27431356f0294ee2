"""The stage as its user runs it, by DVC, with the folder names that people have."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.manifest.table import read_manifest
from tests.test_pipeline import Checkout

FOLDER = 'data/mein "Daten" ä\'x $HOME `id` #1 & (2)'


def test_any_folder_name_goes_through_dvc(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    nut = checkout.folder / FOLDER / "Mutter groß"
    noise = np.random.default_rng(0)
    for name in [*(f"train/good/{n}" for n in range(4)), "test/good/0", "test/chip/0"]:
        (nut / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), np.uint8)).save(nut / f"{name}.png")
    checkout.set({"manifest": {"data": FOLDER}})
    output = checkout.run(["dvc", "repro", "manifest"])
    assert "Mutter groß: good images to learn from: 3, held out: 1" in output
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    assert (manifest.root, manifest.categories, len(manifest.rows)) == (Path(FOLDER), ["Mutter groß"], 6)
    assert "up to date" in checkout.run(["dvc", "status", "manifest"])
    (nut / "train/good/0.png").rename(nut / "train/good/renamed.png")
    assert "manifest:" in checkout.run(["dvc", "status", "manifest"])
