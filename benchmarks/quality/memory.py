"""How much should a memory count beside INP-Former's reconstruction, and are errors better as lengths?

python -m benchmarks.quality.memory ../shared/data/cookie [--seeds 1 2 3] [--share 5] [--part REGEX]

One training a seed gives all rows, as the memory does not change the network. Each row is judged on held-out good
images against pseudo-anomalies of them, against ten real defects a category, and on the test images: choose by the
first two.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines.platform import command

MEMORY = "inp_former:epochs=10,fewest_steps=300,memory={grid: 32, tokens: 2048, pool: 3}"
WEIGHTS = (0.25, 0.5, 1.0, 2.0)


def main() -> None:
    """Prints a table for each kind of judged picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a category in MVTec-AD layout, or a folder of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--share", type=int, default=1, help="one of so many training images")
    parser.add_argument("--part", help="a regular expression whose first group names the part, as manifest.part")
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "inpformer-quality")
    args = parser.parse_args()
    # Not at the top: torch and timm take longer to load than arguments to be refused.
    import torch

    from benchmarks.quality import compare
    from inpformer.encoders.encoder import load_encoder
    from inpformer.encoders.settings import EncoderSettings
    from inpformer.features.objects import Folder
    from inpformer.features.store import FeatureStore
    from inpformer.methods.inp_former.model import InpFormer, errors_as_lengths, reconstruction_map
    from inpformer.nn.maps import to_map
    from inpformer.streams import chunks

    encoder = load_encoder(EncoderSettings())
    crop = encoder.transform.crop
    store = FeatureStore(Folder(args.store), encoder.key)
    manifest = compare.read_manifest(args.data, args.part, args.share)
    train = compare.pictures.training(manifest, encoder, store)
    held_out = compare.pictures.held_out(manifest, encoder, store)
    judged = {name: found(manifest, encoder, store) for name, found in compare.JUDGED.items()}

    @torch.inference_mode()
    def maps(loop: compare.TrainingLoop, which: compare.Judged) -> dict[str, torch.Tensor]:
        """By row, [n, 256, 256]."""
        model, views = loop.model, which.source.open()
        assert isinstance(model, InpFormer)
        parts = []
        for numbers in chunks(iter(which.numbers), compare.BATCH):
            groups = loop.wants.of(views.read("train", numbers))
            output = model.network(model.target(groups))
            errors, away = errors_as_lengths(output) / model.scales[0], model._away(groups) / model.scales[1]
            parts.append((reconstruction_map(output, crop), to_map(errors, crop), to_map(away, crop)))
        cosines, lengths, distances = (torch.cat(column) for column in zip(*parts, strict=True))
        mixed = {f"+ memory, weight {w:g}": (lengths + w * distances) / (1 + w) for w in WEIGHTS}
        return {"errors as cosine distances": cosines, "errors as lengths": lengths, **mixed, "memory alone": distances}

    rows: dict[str, dict[str, list[list[float]]]] = {name: {} for name in judged}
    for seed in args.seeds:
        loop = compare.train(
            replace(compare.read_method(MEMORY), seed=seed), compare.Task(encoder, train, held_out, held_out), "memory"
        )
        good = {row: loop.model.scores(found) for row, found in maps(loop, held_out).items()}
        for name, which in judged.items():
            for row, found in maps(loop, which).items():
                limits = compare.thresholds(held_out, good[row])
                measured = compare.measures(which, found, loop.model.scores(found), limits)
                rows[name].setdefault(row, []).append(measured.tolist())
    for name, found in rows.items():
        print(f"\n| {name} | {' | '.join(compare.COLUMNS)} |\n|{'---|' * (1 + len(compare.COLUMNS))}")
        for row, seeds in found.items():
            print(f"| {row} | {' | '.join(compare.summary(seeds))} |", flush=True)


if __name__ == "__main__":
    command.run(main)
