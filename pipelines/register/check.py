"""Whether a detector survives being saved: the only part of the stage that needs the model."""

import tempfile
from pathlib import Path

import numpy as np

from inpformer.errors import UserError
from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from pipelines.manifest.table import Manifest
from pipelines.platform.weights import load_encoder

CHECK_IMAGES = 4
# Two processors add up in different orders; a wrong tensor is off by far more.
CHECK_TOLERANCE = 1e-5


def checked(folder: Path, manifest: Manifest) -> Detector:
    """Loads the detector, saves, loads and asks it again. Raises UserError if the copy scores test images
    differently.
    """
    detector = Detector.load(folder, load=load_encoder)
    rows = manifest.split("test")[:CHECK_IMAGES]
    images, categories = [read_image(manifest.root / row.path) for row in rows], [row.category for row in rows]
    with tempfile.TemporaryDirectory() as temporary:
        detector.save(Path(temporary) / "copy")
        copy = Detector.load(Path(temporary) / "copy", load=load_encoder)
    pairs = zip(detector.predict(images, categories).maps, copy.predict(images, categories).maps, strict=True)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    if not difference <= CHECK_TOLERANCE:
        raise UserError(f"the saved detector's maps differ by {difference:.2g} from the original's: do not use it.")
    return detector
