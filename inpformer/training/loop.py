"""The training loop: batches of features in, a trained model and its history out, phase by phase of its method.

It imports neither Ray nor images: the features are in the store, and whoever runs the loop says how many workers share
a batch.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.features.masks import unpack_masks
from inpformer.features.view_table import Views
from inpformer.methods.base import TOTAL, Anomalies, Categorised, Fit, FitCategories, Groups, Model, Train
from inpformer.nn.tensors import part_of, prefixed
from inpformer.streams import ahead, chunks
from inpformer.training.settings import TrainSettings
from inpformer.training.step import train_step

CHECKPOINT_TENSORS, CHECKPOINT_PROGRESS = "checkpoint.safetensors", "progress.json"
# So many refused steps in a row mean that the run is lost, not that one batch was odd.
MOST_REFUSED_STEPS = 20
BATCHES_AHEAD = 2
LARGEST_SEED = 2**62
Row = dict[str, float]  # the numbers of an epoch


class Source(Protocol):
    """Where the features are: small, and the same on every machine. `kept` is what of the levels was stored, None if
    all of them were.
    """

    @property
    def kept(self) -> Wants | None:
        """See above."""

    def open(self) -> Views:
        """The features, by split and number."""


@dataclass(frozen=True)
class LoopConfig:
    """All that a loop is told: small, however many images there are. `shape` is that of the encoder's levels;
    `anomalies` are pictures with defects, whose last level is their mask, for methods that learn from them.
    """

    settings: TrainSettings
    shape: EncoderShape
    features: Source
    anomalies: Source | None = None

    def model(self) -> Model:
        """A new one, always the same for a seed."""
        torch.manual_seed(self.settings.seed)
        return self.settings.kind.make(self.settings.own, self.shape)


@dataclass
class Progress:
    """Where a run stands: phases done; epochs done, of all phases together; steps taken in this phase; a row of
    numbers for each epoch; and the seconds that all of it took, without interruptions.
    """

    phase: int = 0
    epoch: int = 0
    steps: int = 0
    history: list[Row] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)


def share(size: int, rank: int, workers: int) -> slice:
    """Which images of a batch of `size` are a worker's: shares differ by one at most."""
    return slice(rank * size // workers, (rank + 1) * size // workers)


class TrainingLoop:
    """One worker's state: its share of every batch, the model, the optimiser of the phase, the progress."""

    def __init__(
        self,
        config: LoopConfig,
        device: torch.device,
        rank: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        """`wrap` makes what is trained one of several workers' (DistributedDataParallel)."""
        self.config, self.settings = config, config.settings
        self.features = config.features.open()
        self.anomalies = None if config.anomalies is None else config.anomalies.open()
        self.device, self.rank, self.workers, self._wrap = device, rank, workers, wrap
        self.model = config.model().to(device)
        self.wants = self.model.wants(self.settings.own, config.shape)
        steps = self.features.count("train") // self.settings.batch_size
        self.phases = [one.lasting(steps) if isinstance(one, Train) else one for one in self.model.phases()]
        self.progress = Progress()
        self._begin_phase()

    @property
    def done(self) -> bool:
        """Whether the last phase is over."""
        return self.progress.phase >= len(self.phases)

    @property
    def epochs(self) -> int:
        """The epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases if isinstance(phase, Train))

    def advance(self) -> Row | None:
        """A whole phase without gradient, or one epoch of a phase of steps, whose numbers it returns."""
        phase, began = self.phases[self.progress.phase], perf_counter()
        # What a method draws at random follows from where it stands: after an interruption it is the same.
        torch.manual_seed(self.settings.seed + self.progress.phase + self.progress.epoch)
        if isinstance(phase, Train):
            self._epoch(phase)
        else:
            self._fit(phase)
        self.progress.seconds += perf_counter() - began
        if not isinstance(phase, Train):
            self._end_phase()
            return None
        if self.progress.epoch == self._epochs_until(self.progress.phase + 1):
            self._end_phase()
        return self.progress.history[-1]

    def run_to(self, epoch: int) -> None:
        """Advances until so many epochs are over, or, at the last one, everything is."""
        while not self.done and (self.progress.epoch < epoch or epoch >= self.epochs):
            self.advance()

    def _epochs_until(self, phase: int) -> int:
        return sum(one.epochs for one in self.phases[:phase] if isinstance(one, Train))

    def _begin_phase(self) -> None:
        phase = None if self.done else self.phases[self.progress.phase]
        self.optimizer: Optimizer | None = None
        if isinstance(phase, Train):
            self.wrapped = phase.network if self._wrap is None else self._wrap(phase.network)
            self.optimizer = phase.optimizer(phase.network.parameters())

    def _end_phase(self) -> None:
        self.progress.phase += 1
        self.progress.steps = 0
        self._begin_phase()

    @torch.no_grad()
    def _fit(self, phase: Fit | FitCategories) -> None:
        """Rank 0 fits, everyone else receives."""
        if self.rank == 0:
            count, size = self.features.count("train"), self.settings.batch_size
            order, again = (chunks(iter(range(count)), size) for _ in range(2))
            self.model.eval()
            if isinstance(phase, Fit):
                phase.fit(self.batches("train", order))
            else:
                phase.fit(map(Categorised, self.batches("train", order), self._categories("train", again)))
            self.model.train()
        if self.workers == 1:
            return
        tensors = self.model.state_dict()
        shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()}]
        dist.broadcast_object_list(shapes, src=0, device=self.device)
        if self.rank:
            tensors = {name: tensors[name].new_empty(shape) for name, shape in shapes[0].items()}
        for tensor in tensors.values():
            dist.broadcast(tensor, src=0)
        if self.rank:
            self.model.load_tensors(tensors, "what the first worker sent")

    def batches(self, split: str, batches: Iterable[Sequence[int]]) -> Iterator[Groups]:
        """The features of some views, by their numbers, as the method wants them, on the device. The next batch is read
        while the model works on one.
        """
        for levels in self._read(self.features, split, batches):
            yield self._groups(levels)

    def _categories(self, split: str, batches: Iterable[Sequence[int]]) -> Iterator[Tensor]:
        """The categories of some views, by their numbers, on the device: [B] each."""
        for numbers in batches:
            yield torch.tensor(self.features.categories(split, numbers), device=self.device)

    def anomalous(self, split: str, batches: Iterable[Sequence[int]]) -> Iterator[Anomalies]:
        """As `batches`, of the pictures with defects."""
        assert self.anomalies is not None
        for levels in self._read(self.anomalies, split, batches):
            yield Anomalies(self._groups(levels[:-1]), unpack_masks(self._on_device(levels[-1])))

    def _read(self, views: Views, split: str, batches: Iterable[Sequence[int]]) -> Iterator[Sequence[Tensor]]:
        """The levels of views by their numbers, in memory; for a GPU in memory that it can copy from on its own."""

        def read(numbers: Sequence[int]) -> Sequence[Tensor]:
            levels = views.read(split, numbers)
            return [level.contiguous().pin_memory() for level in levels] if self.device.type == "cuda" else levels

        return ahead(read, batches, BATCHES_AHEAD)

    def _groups(self, levels: Sequence[Tensor]) -> Groups:
        on_device = [self._on_device(level).float() for level in levels]
        return on_device if self.config.features.kept is not None else self.wants.of(on_device)

    def _on_device(self, level: Tensor) -> Tensor:
        """Without waiting for the copy: what is computed from it waits, on the device."""
        return level.to(self.device, non_blocking=True)

    def _with_anomalies(
        self, phase: Train, split: str, good: Iterable[Sequence[int]], bad: Iterable[Sequence[int]]
    ) -> Iterator[tuple[Groups, Anomalies | None]]:
        """Batches of good views, each with one of pictures with defects, where the phase takes those."""
        anomalous = self.anomalous(split, bad) if phase.anomalies else repeat(None)
        return zip(self.batches(split, good), anomalous, strict=False)

    def _epoch(self, phase: Train) -> None:
        """One pass over the training images; the last partial batch is dropped."""
        assert self.optimizer is not None
        size = self.settings.batch_size
        count = self.features.count("train")
        steps = count // size
        generator = torch.Generator().manual_seed(self.settings.seed + self.progress.epoch)
        order = torch.randperm(count, generator=generator).tolist()
        mine = share(size, self.rank, self.workers)
        good = (order[n * size : (n + 1) * size][mine] for n in range(steps))
        seeds = torch.randint(LARGEST_SEED, (steps, size), generator=generator)[:, mine].tolist()
        bad = (numbers[mine] for numbers in islice(chunks(self._shuffled_anomalies(), size), steps))
        sums: dict[str, Tensor] = {}
        norms, rate, refused, refused_in_a_row = 0.0, 0.0, 0, 0
        for (groups, anomalies), own in zip(self._with_anomalies(phase, "train", good, bad), seeds, strict=True):
            rate = phase.rate(self.progress.steps, steps * phase.epochs)
            loss = partial(phase.loss, self._forward, groups, anomalies, own)
            weight = (mine.stop - mine.start) * self.workers / size
            step = train_step(self.wrapped, self.optimizer, loss, rate, phase.clip, weight)
            self.progress.steps += 1
            refused_in_a_row = refused_in_a_row + 1 if step.refused else 0
            if refused_in_a_row == MOST_REFUSED_STEPS:
                raise UserError(
                    f"{MOST_REFUSED_STEPS} steps in a row had a loss or gradient that is not finite (last in epoch "
                    f"{self.progress.epoch + 1}): lower the learning rate of {self.settings.method}."
                )
            if step.refused:
                refused += 1
                continue
            sums = {name: sums.get(name, 0) + value for name, value in step.terms.items()}
            norms += step.gradient_norm
        taken = max(1, steps - refused)
        means = {name: float(self.over_workers(total) / taken) for name, total in sums.items()}
        self.progress.epoch += 1
        self.progress.history.append(
            {
                "epoch": self.progress.epoch,
                "loss": means.pop(TOTAL, float("nan")),
                **means,
                "val_loss": self.validate(phase),
                "gradient_norm": norms / taken,
                "lr": rate,
                "refused_steps": refused,
            }
        )

    def _shuffled_anomalies(self) -> Iterator[int]:
        """The numbers of all pictures with defects, shuffled anew each time round, without end."""
        assert self.anomalies is not None
        count = self.anomalies.count("train")
        generator = torch.Generator().manual_seed(self.settings.seed + self.progress.epoch)
        while True:
            yield from torch.randperm(count, generator=generator).tolist()

    def _forward(self, *inputs: Any) -> Any:
        """Runs what is trained, on GPUs in bfloat16."""
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16) if cuda else contextlib.nullcontext():
            return self.wrapped(*inputs)

    @torch.no_grad()
    def validate(self, phase: Train) -> float:
        """The loss on the held-out normal images, mean over images."""
        self.model.eval()
        count, size = self.features.count("val"), self.settings.batch_size
        mine = range(self.rank, count, self.workers)
        good, bad = (chunks(iter(mine), size) for _ in range(2))  # each has a picture with a defect
        total = torch.zeros(1, device=self.device)
        for groups, anomalies in self._with_anomalies(phase, "val", good, bad):
            total += phase.validate(phase.network, groups, anomalies) * len(groups[0])
        self.model.train()
        return float(self.over_workers(total) * self.workers / count)

    def over_workers(self, value: Tensor) -> Tensor:
        """The mean over the workers."""
        if self.workers > 1:
            dist.all_reduce(value)
        mean: Tensor = value / self.workers
        return mean

    def save(self, folder: Path) -> None:
        """Writes model, optimiser and progress; `load` is its counterpart."""
        tensors = prefixed("model.", self.model.tensors())
        numbers: dict[str, dict[str, float]] = {}
        for name, state in self._optimizer_states():
            slots = {slot: value for slot, value in state.items() if isinstance(value, Tensor)}
            tensors |= prefixed("optimizer.", {f"{slot}.{name}": tensor for slot, tensor in slots.items()})
            numbers[name] = {slot: value for slot, value in state.items() if slot not in slots}
        save_file(tensors, folder / CHECKPOINT_TENSORS)
        progress = {**asdict(self.progress), "optimizer": numbers}
        (folder / CHECKPOINT_PROGRESS).write_text(json.dumps(progress))

    def load(self, folder: Path) -> None:
        """Takes up what `save` wrote."""
        tensors = load_file(folder / CHECKPOINT_TENSORS)
        progress = json.loads((folder / CHECKPOINT_PROGRESS).read_text())
        numbers = progress.pop("optimizer")
        self.progress = Progress(**progress)
        self.model.load_tensors(part_of(tensors, "model."), str(folder))
        self.model.to(self.device)
        self._begin_phase()
        slots = part_of(tensors, "optimizer.")
        for name, state in self._optimizer_states():
            found = {key.partition(".")[0]: value for key, value in slots.items() if key.partition(".")[2] == name}
            state |= found | numbers.get(name, {})
        if self.optimizer is not None:
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # it knows which of them go to the device

    def _optimizer_states(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the optimiser keeps of each parameter, by the parameter's name."""
        if self.optimizer is not None:
            phase = self.phases[self.progress.phase]
            assert isinstance(phase, Train)
            for name, parameter in phase.network.named_parameters():
                yield name, self.optimizer.state[parameter]


def read_model(config: LoopConfig, folder: Path, source: str) -> tuple[Model, Progress]:
    """The model that a training left in a checkpoint, and how it came there; `source` names that to a person."""
    model = config.model()
    model.load_tensors(part_of(load_file(folder / CHECKPOINT_TENSORS), "model."), source)
    progress = json.loads((folder / CHECKPOINT_PROGRESS).read_text())
    progress.pop("optimizer")
    return model, Progress(**progress)
