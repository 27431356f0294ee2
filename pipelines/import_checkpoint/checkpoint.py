"""Brings the authors' checkpoint (model.pth: DINOv2 encoder and INP-Former in one state dict) into the registry."""

import hashlib
import pickle
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from inpformer.digests import folder_digest
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.methods import METHODS
from inpformer.nn.tensors import load_exactly
from pipelines.features.settings import FeatureSettings
from pipelines.platform import files, provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.params import read_section
from pipelines.platform.registry import Evidence, register_alone
from pipelines.record.steps import REGISTRATION
from pipelines.record.versions import note_version
from pipelines.register.settings import RegisterSettings

METHOD = METHODS["inp_former"]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, by name.

    Raises UserError if it is missing, damaged or holds anything but tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocols: what cannot be read is said below
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: give the path of the authors' model.pth.") from None
    except pickle.UnpicklingError:
        raise UserError(f"{file} holds more than tensors, so it is not loaded: save its state_dict alone.") from None
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError) as error:
        reason = (str(error) or "it is cut short").splitlines()[0][:200]
        raise UserError(f"{file} cannot be read ({reason}): fetch it again.") from None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{file} is no plain state dict of tensors: save the model's state_dict alone.")
    return dict(state)


def bring_encoder(
    official: Mapping[str, Tensor], name: str, resize: int, crop: int, white: int, folder: Path
) -> Encoder:
    """Writes the checkpoint's encoder into `folder` in timm's naming, every key and shape checked, and loads it.

    Raises UserError if it is not of the ViT `name`.
    """
    if not timm.is_model(name):
        raise UserError(f"--encoder is {name}: timm has no such model.")
    probe = timm.create_model(name, pretrained=False, num_classes=0)
    state = METHOD.authors.encoder_state(official)
    load_exactly(probe, state, f"the checkpoint's encoder as {name}")
    content = save({key: tensor.contiguous() for key, tensor in state.items()})
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / f"{name}-{sha256[:12]}.safetensors"
    with files.written_whole(file) as temporary:
        temporary.write_bytes(content)
    return load_encoder(EncoderSettings(name, file.as_posix(), sha256, resize, crop, levels=None, white=white))


def import_detector(official: Mapping[str, Tensor], encoder: Encoder, learnt_from: LearntFrom, source: str) -> Detector:
    """The detector of an official state dict, without thresholds.

    Raises UserError naming `source` and the first key that is missing, unknown or of another shape.
    """
    if encoder.shape.heads is None:
        raise UserError(f"{encoder.settings.name} is no ViT: give the encoder that the checkpoint was trained on.")
    settings, model = METHOD.authors.import_model(official, encoder.shape, source)
    return Detector(encoder, METHOD, settings, {ALL: model}, learnt_from, thresholds={})


def load_checkpoint(
    file: Path,
    name: str | None,
    weights: str | None,
    resize: int,
    crop: int,
    folder: Path,
    learnt_from: LearntFrom,
    white: int = WHITE,
) -> Detector:
    """Reads a checkpoint with its encoder, or with the encoder `weights` (hub or a file) where those are given: then
    the checkpoint's own, if it has one, must be the same by digest. `white` is that of the pictures to be judged.
    """
    official = read_tensors(file)
    name = name or METHOD.authors.encoder_name(official)
    if name is None:
        raise UserError(f"{file} is of no ViT that the authors used: give --encoder.")
    brought = any(key.startswith("encoder.") for key in official)
    if not brought and weights is None:
        raise UserError(f"{file} holds no encoder: give --weights hub, or the path of a .safetensors file.")
    encoder = bring_encoder(official, name, resize, crop, white, folder) if brought else None
    if weights is not None:
        given = load_encoder(EncoderSettings(name, weights, None, resize, crop, levels=None, white=white))
        if encoder is not None and encoder.digest != given.digest:
            raise UserError(
                f"the encoder in {file} is {encoder.digest[:12]}, {name} from {weights} is {given.digest[:12]}: "
                "leave --weights out to use the checkpoint's own."
            )
        encoder = given
    assert encoder is not None
    return import_detector(official, encoder, learnt_from, str(file))


def run(args: Namespace) -> None:
    """Imports, saves the detector folder and registers it under @challenger."""
    model_name = read_section("register", RegisterSettings).model_name
    learnt_from = LearntFrom(args.setting, "", tuple(args.categories))
    white = read_section("features", FeatureSettings).encoder.white  # of the camera, which no checkpoint knows
    detector = load_checkpoint(
        args.checkpoint, args.encoder, args.weights, args.resize, args.crop, args.encoders, learnt_from, white
    )
    with files.written_whole(args.out) as folder:
        detector.save(folder)
    with args.checkpoint.open("rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    tags = {
        **provenance.code_tags(),
        "imported.from": args.checkpoint.name,
        "imported.sha256": sha256,
        "encoder.digest": detector.encoder.digest,
        "setting": args.setting,
        "calibrated": "no",
    }
    description = "\n".join(
        [
            f"imported from {args.checkpoint.name} (sha256 {sha256[:12]}), without thresholds, not measured",
            f"{args.setting} on {', '.join(args.categories) or 'categories that are not known'}",
            provenance.code(),
        ]
    )
    name = f"import-{args.checkpoint.stem}"
    version = register_alone(args.out, model_name, f"import {sha256}", name, Evidence(description, tags))
    note_version(model_name, version, REGISTRATION, folder_digest(args.out))
    print(
        f"{args.out} is {model_name} version {version}, @{CHALLENGER}; its encoder: {detector.encoder.settings.weights}"
    )
    settings = detector.encoder.settings
    print(
        f"to measure it on your data, set in params.yaml: features.encoder {{name: {settings.name}, weights: "
        f"{settings.weights}, resize: {settings.resize}, crop: {settings.crop}, levels: null, taps: null}}, "
        f"train.inp_former {{grid: null, channels: null}}, train.weights {args.out}; then: dvc repro"
    )
    print(f"to give it thresholds alone: python -m pipelines.recalibrate {version} --category NAME --normals FOLDER")
    print(
        "a checkpoint does not say which images it was trained on, so no threshold promises anything until you say "
        "that the held-out ones were not among them: calibrate.unseen: true in params.yaml, or recalibrate --unseen"
    )
