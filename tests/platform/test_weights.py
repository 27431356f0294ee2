"""Encoder weights in S3: fetched once, checked, and named in what is saved by where they lie."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import timm
from mlflow.pyfunc.model import PythonModelContext
from safetensors.torch import save_file

from inpformer.encoders.encoder import load_encoder as load_local
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from pipelines.platform.bucket import cache_folder
from pipelines.platform.pyfunc_model import DetectorModel
from pipelines.platform.weights import load_encoder
from serving import fetched
from serving.fetched import DETECTOR_FOLDER, TAGS_FILE, Wanted
from serving.registry import download_weights
from tests.conftest import INP_FORMER, OWN
from tests.s3_server import S3Server

NAME = "vit_tiny_patch16_224"


@pytest.fixture
def settings(s3_here: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderSettings:
    """A random ViT whose weights are in the bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model(NAME, num_classes=0).state_dict(), file)
    s3_here.client().put_object(Bucket="tests", Key="weights/vit.safetensors", Body=file.read_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return EncoderSettings(NAME, "s3://tests/weights/vit.safetensors", digest, 32, 32, levels=None)


def test_weights_are_fetched_once_and_named_where_they_lie(
    settings: EncoderSettings, s3_here: S3Server, tmp_path: Path
) -> None:
    here = load_local(replace(settings, weights=str(tmp_path / "vit.safetensors")))
    encoder = load_encoder(settings)
    assert (encoder.settings, encoder.key) == (settings, here.key)
    s3_here.client().delete_object(Bucket="tests", Key="weights/vit.safetensors")
    assert load_encoder(settings).key == here.key


def test_the_service_fetches_them_too(settings: EncoderSettings, detector: Detector, tmp_path: Path) -> None:
    encoder = load_encoder(settings)
    own = replace(OWN, grid=None, channels=None)
    model = INP_FORMER.make(own, encoder.shape)
    made = Detector(encoder, INP_FORMER, own, {ALL: model}, detector.learnt_from, detector.thresholds)
    made.save(tmp_path / DETECTOR_FOLDER)
    (tmp_path / TAGS_FILE).write_text("{}")
    served = fetched.load(tmp_path, "m", 1, Wanted(), None, download_weights).detector.encoder
    assert (served.settings, served.digest) == (settings, encoder.digest)
    with pytest.raises(UserError, match=r"s3://tests/nowhere\.safetensors cannot be fetched .*: check AWS_"):
        download_weights("s3://tests/nowhere.safetensors", tmp_path)


def test_of_many_that_want_them_at_once_one_fetches(settings: EncoderSettings, s3_here: S3Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = {encoder.key for encoder in pool.map(load_encoder, [settings] * 4)}
    assert len(keys) == 1
    assert [file.suffix for file in sorted(cache_folder("encoders").iterdir())] == [".lock", ".safetensors"]


def test_a_pyfunc_model_fetches_them_too(settings: EncoderSettings, detector: Detector, tmp_path: Path) -> None:
    encoder = load_encoder(settings)
    own = replace(OWN, grid=None, channels=None)
    model = INP_FORMER.make(own, encoder.shape)
    made = Detector(encoder, INP_FORMER, own, {ALL: model}, detector.learnt_from, detector.thresholds)
    made.save(tmp_path / "saved")
    pyfunc = DetectorModel()
    pyfunc.load_context(PythonModelContext({"detector": str(tmp_path / "saved")}, {}))
    assert pyfunc.detector.encoder.settings == settings


def test_a_cache_that_cannot_be_written_is_one_sentence(settings: EncoderSettings, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cache/inpformer/encoders does not take the encoder's weights"):
        load_encoder(settings)


def test_a_file_of_another_digest_is_refused_and_not_kept(settings: EncoderSettings) -> None:
    with pytest.raises(UserError, match=r"what arrived of s3://tests/weights/vit\.safetensors .* is not of the SHA256"):
        load_encoder(replace(settings, weights_sha256="0" * 64))
    assert [file.suffix for file in cache_folder("encoders").iterdir()] == [".lock"]


@pytest.mark.parametrize("digest", [None, "nonsense", "A" * 64])
def test_weights_in_s3_need_their_digest(digest: str | None) -> None:
    with pytest.raises(UserError, match=r"weights_sha256 is .*: it must be the sha256 of the file, 64 hex digits"):
        EncoderSettings(NAME, "s3://tests/vit.safetensors", digest, levels=None)
