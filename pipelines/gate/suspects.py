"""The gate's suspects: good pictures that stand out from the other good ones."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import EncoderSettings
from inpformer.images.transform import read_image
from pipelines.gate.finding import WARNING, Finding
from pipelines.manifest.table import Manifest, Row

# Of the sizes and strides tried (128 to 256 pixels, all four strides or the middle two), the most planted defects
# for the time: 12×12 tokens an image.
ENCODER = EncoderSettings(resize=192, crop=192, levels=(8, 16))
WANTS = Wants(((0, 1),), "channels", grid=12)
BATCH = 16
REFERENCES = 8192  # tokens that an image is held against
STRANGEST = 0.01  # of an image's tokens: a defect is small
FEWEST = 10  # images that a median and its deviation can be taken of
STANDS_OUT = 4.0  # robust standard deviations; figures in `suspects`


def suspects(manifest: Manifest) -> list[Finding]:
    """Train and val images whose strangest tokens are far from those of all other ones, the strangest first.

    An image's score is the mean of the largest 1 % of its tokens' distances to their nearest among a seeded sample of
    the tokens of the category's other images. Images whose score is more than STANDS_OUT robust standard deviations
    (median, MAD) above the median are reported; below, nothing is. Copies are left out, other pictures of the same
    part are not: they hide one another, as does a defect that several good pictures share.

    An image takes 44 kB of memory (half precision), one category at a time, and 0.05 s on 2 free CPU cores, of which
    the encoder takes the most; time grows in proportion to the images.

    Measured on `demo.data` (100 good images a category): of 36 defective test images, three of each kind
    planted among the good, 32 are flagged (12 of 12 of metal, 11 of fabric, 9 of board), and 2 of the 300 clean
    ones, 1 of them without the planted ones too. On ../shared/data/magnetic_tile, whose good tiles differ as much as
    its defects, 6 % of the defective images would be flagged, and 2 of the 760 good ones are: one of these is broken
    (exp5_num_117030; the tile's other exposures are filed under test/break), the other has a chipped corner.
    """
    encoder = load_encoder(ENCODER).to("cuda" if torch.cuda.is_available() else "cpu")
    learnt = {row.sha256: row for row in manifest.rows if row.split != "test" and not row.label}
    found: list[tuple[float, Finding]] = []
    with tqdm(total=len(learnt), desc="gate: suspects", unit="image", disable=None) as progress:
        for category in sorted({row.category for row in learnt.values()}):
            rows = [row for row in learnt.values() if row.category == category]
            if len(rows) >= FEWEST:
                scores = leave_one_out(_tokens(manifest, rows, encoder, progress))
                for row, deviations in zip(rows, _deviations(scores), strict=True):
                    if deviations > STANDS_OUT:
                        far = f"{deviations:.1f} robust standard deviations from them, said from {STANDS_OUT:g} on"
                        text = f"something in this good picture ({row.split}) is unlike the others: {far}"
                        found.append((deviations, Finding("suspects", WARNING, category, (row.path,), text)))
    return [finding for _, finding in sorted(found, key=lambda f: (-f[0], f[1].paths))]


def leave_one_out(tokens: Tensor) -> NDArray[np.float32]:
    """The score of each image [n] from all tokens [n, N, C] of a category: see `suspects`."""
    n, count, channels = tokens.shape
    picked = torch.randperm(n * count, generator=torch.Generator().manual_seed(0))[:REFERENCES].to(tokens.device)
    bank, owner = tokens.reshape(-1, channels)[picked].float(), picked // count
    mean, spread = bank.mean(0), bank.std(0) + 1e-6
    bank = (bank - mean) / spread
    strangest = max(1, round(STRANGEST * count))
    scores = []
    for number, image in enumerate(tokens):
        distances = torch.cdist((image.float() - mean) / spread, bank)
        distances[:, owner == number] = torch.inf
        scores.append(distances.min(1).values.topk(strangest).values.mean())
    return np.asarray(torch.stack(scores).cpu().numpy(), np.float32)


def _deviations(scores: NDArray[np.float32]) -> list[float]:
    """Robust standard deviations above the median; 1.4826 makes the MAD that of a normal distribution."""
    above = scores - np.median(scores)
    return [float(value) for value in above / max(1.4826 * float(np.median(np.abs(above))), 1e-6)]


def _tokens(manifest: Manifest, rows: Sequence[Row], encoder: Encoder, progress: tqdm) -> Tensor:
    """[n, N, C] float16."""
    encoded = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        levels = encoder.encode([read_image(manifest.root / row.path) for row in part])
        encoded.append(WANTS.of(levels)[0].half())
        progress.update(len(part))
    return torch.cat(encoded)
