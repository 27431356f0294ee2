"""The records of what params.yaml names by path: an encoder's file, a folder of textures and a detector's folder."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from inpformer.errors import UserError
from pipelines.platform import files
from pipelines.platform.params import read_all
from pipelines.weights.digest import digest_of

ENCODER_KEY, DETECTOR_KEY = "features.encoder.weights", "train.weights"
TEXTURES_KEY = "features.anomalies.textures"
# An encoder's that are no paths: what they name does not change, or is pinned by features.encoder.weights_sha256.
NAMES, IN_S3 = ("bundled", "hub"), "s3://"


def recorded(key: str, place: str | None) -> dict[str, str | None]:
    """What a record holds: the sha256 (hex) of the content at `place`, null where that is no path on this machine.

    Raises UserError, naming the key of params.yaml, if nothing of the kind is there.
    """
    if place is None or (key == ENCODER_KEY and (place in NAMES or place.startswith(IN_S3))):
        return {"sha256": None}
    path = Path(place)
    wanted = path / "detector.json" if key == DETECTOR_KEY else path
    if not wanted.is_file():
        raise UserError(f"params.yaml: {key} is {place}: {wanted} is no file, put it there or name another.")
    try:
        return {"sha256": digest_of(path)}
    except OSError as error:
        raise UserError(f"params.yaml: {key}: {error.filename} cannot be read ({error.strerror}).") from None


def recorded_textures(place: str | None) -> dict[str, str | None]:
    """The same of a folder of textures, which goes into the encoder's record, as features depends on that."""
    folder = None if place is None else Path(place).expanduser()
    try:
        return {"textures": digest_of(folder) if folder is not None and folder.is_dir() else None}
    except OSError as error:
        raise UserError(f"params.yaml: {TEXTURES_KEY}: {error.filename} cannot be read ({error.strerror}).") from None


def named(params: Any, key: str) -> str | None:
    """The text under a dotted key; None where there is none, which its own stage may refuse."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params if isinstance(params, str) else None


def run(args: Namespace) -> None:
    """Writes both records."""
    # Not read_section, which checks all of it: that takes seconds to import, and this runs each time.
    params = read_all()
    encoder, detector = (recorded(key, named(params, key)) for key in (ENCODER_KEY, DETECTOR_KEY))
    textures = recorded_textures(named(params, TEXTURES_KEY))
    for file, content in ((args.encoder, encoder | textures), (args.detector, detector)):
        with files.written_whole(file) as temporary:
            temporary.write_text(json.dumps(content) + "\n")
