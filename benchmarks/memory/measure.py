"""Steps of training on tensors without content, and what of them is alive at once."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inpformer.config import build
from inpformer.encoders.encoder import UNSCALED
from inpformer.encoders.pyramid import Picture, PyramidEncoder
from inpformer.encoders.settings import PICTURE, EncoderSettings
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.images.frame import MAP_SIZE
from inpformer.methods.base import TOTAL, Anomalies, Train
from inpformer.training.settings import TrainSettings

PRESETS = Path("presets")
GIB, MILLION = 2**30, 1e6
SLOTS, SLOT_BYTES = 2, 4  # of a parameter in Adam and AdamW
COLUMNS = ("training", "million parameters", "weights of the model", "optimiser", "largest in a step")


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors made under it: `now`, and the `most` at once since that was last set."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return found

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def run(preset: str, batch: int | None) -> None:
    """Prints a table. Raises UserError for a preset that there is not, or whose encoder has no pyramid."""
    file = PRESETS / f"{preset}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(one.stem for one in PRESETS.glob("*.yaml")))
        raise UserError(f"there is no preset {preset}: choose one of {known}.")
    params = yaml.safe_load(file.read_text())
    train = TrainSettings.from_table(params["train"], f"{file}: train")
    if not train.kind.learns:
        raise UserError(f"{train.method}, the method of the preset {preset}, is not trained: choose another.")
    shape = pyramid(build(EncoderSettings, params["features"]["encoder"], f"{file}: features.encoder"), preset)
    images = batch or train.batch_size
    rows = steps(train, shape, images)
    print(f"{train.method}, {images} images a step, weights in 32 bit, what is computed in bfloat16; GiB")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for number, row in enumerate(rows, start=1):
        print(f"| {number} | {' | '.join(f'{value:.2f}' for value in row)} |")


def pyramid(settings: EncoderSettings, preset: str) -> EncoderShape:
    """The levels of the encoder, without its weights."""
    if settings.levels is None:
        raise UserError(f"the encoder of the preset {preset} is a ViT: choose one of a convolutional encoder.")
    with torch.device("meta"):
        probe: Any = timm.create_model(settings.name, features_only=True, pretrained=False)
        strides = probe.feature_info.reduction()
        indices = [strides.index(stride) for stride in settings.levels if stride != PICTURE]
        network: Any = timm.create_model(settings.name, features_only=True, pretrained=False, out_indices=indices)
        place = settings.levels.index(PICTURE) if PICTURE in settings.levels else None
        encoder = PyramidEncoder(network, settings.crop, Picture(*UNSCALED), place)
        return EncoderShape(encoder.levels, None, encoder.picture)


def steps(train: TrainSettings, shape: EncoderShape, images: int) -> list[list[float]]:
    """Of each training the numbers of COLUMNS after the first. Gradients of an earlier one are still there in a later
    one, as in the loop; its optimiser is not.
    """
    rows = []
    with FakeTensorMode(), Live() as live:
        model = train.kind.make(train.own, shape)
        weights = live.now
        levels = train.kind.wants(train.own, shape).shapes(shape.levels)
        groups = [torch.zeros(images, level.tokens, level.channels) for level in levels]
        for phase in model.phases():
            if isinstance(phase, Train):
                count = sum(one.numel() for one in phase.network.parameters())
                live.most = live.now
                bad = Anomalies(groups, torch.zeros(images, MAP_SIZE, MAP_SIZE)) if phase.anomalies else None
                phase.loss(in_16_bit(phase.network), groups, bad, range(images))[TOTAL].backward()
                slots = SLOTS * SLOT_BYTES * count
                rows.append([count / MILLION, weights / GIB, slots / GIB, (live.most + slots) / GIB])
    return rows


def in_16_bit(network: nn.Module) -> Callable[..., Any]:
    """As the loop runs it on a GPU."""

    def forward(*inputs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*inputs)

    return forward
