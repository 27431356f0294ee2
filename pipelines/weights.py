"""Encoders whose weights lie in S3: fetched once a machine, by their sha256."""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from inpformer.encoder import IN_S3, Encoder, EncoderSettings
from inpformer.encoder import load_encoder as load_local
from pipelines import s3
from pipelines.bucket import cache_folder
from pipelines.download import download, part_file


def load_encoder(settings: EncoderSettings) -> Encoder:
    """As `inpformer.encoder.load_encoder`, weights at s3://… too: the encoder's settings go on naming them there.

    Raises UserError for what that refuses, and if S3 does not give a file of the sha256.
    """
    if not settings.weights.startswith(IN_S3):
        return load_local(settings)
    encoder = load_local(replace(settings, weights=str(fetched(settings.weights, settings.weights_sha256 or ""))))
    encoder.settings = settings
    return encoder


def fetched(uri: str, sha256: str) -> Path:
    """The file of an object in S3 with that sha256 (hex), fetched unless this machine has it."""
    target = cache_folder("encoders") / f"{sha256}.safetensors"
    if not target.exists():
        location, client = s3.parse(uri), s3.connect(patient=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with s3.explained(client, location):
            head = s3.head(client, location)
            part = part_file(target, head)
            with tqdm(total=head["ContentLength"], desc="encoder", unit="B", unit_scale=True, disable=None) as progress:
                download(client, location, head, part, sha256, progress.update)
        part.replace(target)
    return target
