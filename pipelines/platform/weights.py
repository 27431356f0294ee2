"""Encoders whose weights lie in S3: fetched once a machine, by their sha256."""

import fcntl
from pathlib import Path

from tqdm import tqdm

from inpformer.encoders.encoder import Encoder, load_fetched
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from pipelines.platform import s3
from pipelines.platform.bucket import cache_folder
from pipelines.platform.download import download, part_file


def load_encoder(settings: EncoderSettings) -> Encoder:
    """As `load_encoder` of inpformer.encoders, and weights at s3://… too: the settings go on naming them there.

    Raises UserError for what that refuses, and if S3 does not give a file of the sha256.
    """
    return load_fetched(settings, lambda uri: fetched(uri, settings.weights_sha256 or ""))


def fetched(uri: str, sha256: str) -> Path:
    """The file of an object in S3 with that sha256 (hex), fetched unless this machine has it. Of several processes that
    want it, one fetches.

    Raises UserError if S3 does not give it or the disk does not take it.
    """
    target = cache_folder("encoders") / f"{sha256}.safetensors"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _fetch(s3.parse(uri), sha256, target)
    except OSError as error:
        raise UserError(f"{target.parent} does not take the encoder's weights ({error.strerror}): mend that.") from None
    return target


def _fetch(location: s3.Location, sha256: str, target: Path) -> None:
    client = s3.connect(patient=True)
    with s3.explained(client, location):
        head = s3.head(client, location)
        part = part_file(target, head)
        with tqdm(total=head["ContentLength"], desc="encoder", unit="B", unit_scale=True, disable=None) as progress:
            download(client, location, head, part, sha256, progress.update)
    part.replace(target)
