"""The training loop: batches of features in, a trained model and its history out. It imports neither Ray nor images:
the features are in the store, and whoever runs the loop says how many workers share a batch.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inpformer.errors import UserError
from inpformer.judging.trained import Trained
from inpformer.methods.inp_former.losses import coherence_loss, reconstruction_loss
from inpformer.methods.inp_former.network import INPFormer, ModelShape
from inpformer.nn.optim import OPTIMIZER_SLOTS, StableAdamW, learning_rate
from inpformer.nn.projection import Projection
from inpformer.nn.tensors import part_of, prefixed
from inpformer.streams import ahead, chunks
from inpformer.training.settings import TrainSettings
from inpformer.training.step import train_step
from pipelines.training.features import TrainingFeatures

CHECKPOINT_TENSORS, CHECKPOINT_PROGRESS = "checkpoint.safetensors", "progress.json"
# So many refused steps in a row mean that the run is lost, not that one batch was odd.
MOST_REFUSED_STEPS = 20
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class LoopConfig:
    """All that a loop is told: small, however many images there are. `encoder_channels` are those of the features."""

    settings: TrainSettings
    shape: ModelShape
    encoder_channels: int
    features: TrainingFeatures


@dataclass
class Progress:
    """Where a run stands: epochs done, optimiser steps taken, and a row of numbers for each epoch."""

    epoch: int = 0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def share(size: int, rank: int, workers: int) -> slice:
    """Which images of a batch of `size` are a worker's: shares differ by one at most."""
    return slice(rank * size // workers, (rank + 1) * size // workers)


class TrainingLoop:
    """One worker's state: its share of every batch, the model, the optimiser, the progress."""

    def __init__(
        self,
        config: LoopConfig,
        device: torch.device,
        rank: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        """`wrap` moves the model to the device and makes it one of several workers' (DistributedDataParallel)."""
        self.config, self.settings = config, config.settings
        self.features = config.features.open()
        self.device, self.rank, self.workers = device, rank, workers
        torch.manual_seed(self.settings.seed)
        self.model = INPFormer(config.shape)
        self.projection = (
            None
            if self.settings.channels is None
            else Projection(config.encoder_channels, config.shape.channels).to(device)
        )
        self.wrapped: nn.Module = wrap(self.model) if wrap is not None else self.model.to(device)
        self.optimizer = StableAdamW(self.model.parameters(), lr=self.settings.lr)
        self.progress = Progress()

    @property
    def done(self) -> bool:
        """Whether the last epoch is over."""
        return self.progress.epoch >= self.settings.epochs

    def start(self) -> None:
        """Fits the projection, where there is one: a run begins with this or with `load`."""
        if self.projection is not None:
            self.fit_projection(self.projection)

    def fit_projection(self, projection: Projection) -> None:
        """Rank 0 fits, everyone else receives."""
        if self.rank == 0:
            order = chunks(iter(range(self.features.count("train"))), self.settings.batch_size)
            features = (self.features.read("train", indices) for indices in order)
            channels = self.config.encoder_channels
            projection.load_state_dict(Projection.fit(features, channels, self.config.shape.channels).state_dict())
        if self.workers > 1:
            for tensor in projection.state_dict().values():
                dist.broadcast(tensor, src=0)

    def targets(self, split: str, batches: Iterable[Sequence[int]]) -> Iterator[Tensor]:
        """The features of some views, by their numbers, as the model wants them: [B, G, N, C] float32 on the device.
        The next batch is read while the model works on one.
        """
        for features in ahead(lambda indices: self.features.read(split, indices), batches, BATCHES_AHEAD):
            on_device = features.to(self.device)
            yield on_device.float() if self.projection is None else self.projection(on_device)

    def epoch(self) -> None:
        """One pass over the training images; the last partial batch is dropped."""
        size = self.settings.batch_size
        count = self.features.count("train")
        steps = count // size
        generator = torch.Generator().manual_seed(self.settings.seed + self.progress.epoch)
        order = torch.randperm(count, generator=generator).tolist()
        mine = share(size, self.rank, self.workers)
        batches = (order[n * size : (n + 1) * size][mine] for n in range(steps))
        total = torch.zeros(3, device=self.device)
        norms, refused, refused_in_a_row = 0.0, 0, 0
        for target in self.targets("train", batches):
            rate = self.rate(steps)
            step = train_step(
                self.wrapped,
                self.optimizer,
                target,
                rate,
                self.settings.losses,
                autocast=self.device.type == "cuda",
                weight=(mine.stop - mine.start) * self.workers / size,
            )
            self.progress.steps += 1
            refused_in_a_row = refused_in_a_row + 1 if step.refused else 0
            if refused_in_a_row == MOST_REFUSED_STEPS:
                raise UserError(
                    f"{MOST_REFUSED_STEPS} steps in a row had a loss or gradient that is not finite (last in epoch "
                    f"{self.progress.epoch + 1}): lower train.lr or train.losses.mining_power."
                )
            if step.refused:
                refused += 1
                continue
            total += torch.stack([step.total, step.soft_mining, step.coherence])
            norms += float(step.gradient_norm)
        taken = max(1, steps - refused)
        mean = (self.over_workers(total) / taken).tolist()
        self.progress.epoch += 1
        self.progress.history.append(
            {
                "epoch": self.progress.epoch,
                "loss": mean[0],
                "soft_mining": mean[1],
                "coherence": mean[2],
                "val_loss": self.validate(),
                "gradient_norm": norms / taken,
                "lr": rate,
                "refused_steps": refused,
            }
        )

    def rate(self, steps_per_epoch: int) -> float:
        """The learning rate of the step to come."""
        s = self.settings
        return learning_rate(self.progress.steps, steps_per_epoch * s.epochs, s.lr, s.final_lr, s.warmup)

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on the held-out normal images, mean over images."""
        self.model.eval()
        count = self.features.count("val")
        mine = chunks(iter(range(self.rank, count, self.workers)), self.settings.batch_size)
        total = torch.zeros(1, device=self.device)
        for target in self.targets("val", mine):
            output = self.model(target)
            loss = reconstruction_loss(output.target, output.decoded)
            loss = loss + self.settings.losses.coherence_weight * coherence_loss(output.fused, output.prototypes)
            total += loss * len(target)
        self.model.train()
        return float(self.over_workers(total) * self.workers / count)

    def over_workers(self, value: Tensor) -> Tensor:
        """The mean over the workers."""
        if self.workers > 1:
            dist.all_reduce(value)
        mean: Tensor = value / self.workers
        return mean

    def save(self, folder: Path) -> None:
        """Writes model, projection, optimiser and progress; `load` is its counterpart."""
        tensors = Trained(self.projection, self.model).tensors()
        steps = 0
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter]
            steps = state.get("step", 0)
            slots = {slot: state[slot] for slot in state if slot != "step"}
            tensors |= prefixed("optimizer.", {f"{slot}.{name}": tensor for slot, tensor in slots.items()})
        save_file(tensors, folder / CHECKPOINT_TENSORS)
        progress = {**asdict(self.progress), "optimizer_steps": steps}
        (folder / CHECKPOINT_PROGRESS).write_text(json.dumps(progress))

    def load(self, folder: Path) -> None:
        """Takes up what `save` wrote."""
        tensors = {k: v.to(self.device) for k, v in load_file(folder / CHECKPOINT_TENSORS).items()}
        progress = json.loads((folder / CHECKPOINT_PROGRESS).read_text())
        optimizer_steps = progress.pop("optimizer_steps")
        self.progress = Progress(**progress)
        self.model.load_state_dict(part_of(tensors, "model."))
        if self.projection is not None:
            self.projection.load_state_dict(part_of(tensors, "projection."))
        for name, parameter in self.model.named_parameters():
            if optimizer_steps:
                slots = {slot: tensors[f"optimizer.{slot}.{name}"] for slot in OPTIMIZER_SLOTS}
                self.optimizer.state[parameter] = {"step": optimizer_steps, **slots}
