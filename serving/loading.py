"""From an alias to a detector that is ready to judge: from the registry, or what was kept of it on this machine."""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.judging.challenge import check_challenges
from inpformer.judging.detector import Detector
from serving import fetched
from serving.fetched import Loaded, Wanted
from serving.kept import Kept
from serving.registry import NotThereError, Registry, download_weights, is_of_a_full_disk
from serving.settings import Settings

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Served:
    """A detector, its version and digest: replaced as one, so that no answer mixes two. `notice` is what an operator
    should know of how it was loaded; `challenged` is how many of its own pictures it scored as it should.
    """

    detector: Detector
    version: int
    digest: str
    notice: str | None
    challenged: int


def load_first(
    registry: Registry, settings: Settings, turn: AbstractContextManager[object]
) -> tuple[Served, str | None]:
    """The version that the alias points to. Where that cannot be had, the one that is kept on this machine, and why.

    Raises UserError for the first where nothing is kept that can be loaded, NotThereError if the registry answers and
    has no such model or alias.
    """
    try:
        version = registry.version(settings.model, settings.alias)
        return load(registry, settings, version, turn), None
    except NotThereError:  # taken away on purpose: it is not to come back where the registry does not answer
        _kept(settings).forget()
        raise
    except UserError as error:
        served = _load_kept(settings, turn)
        if served is None:
            raise
        return served, f"{error} Version {served.version}, which is kept on this machine, serves until then."


def load(
    registry: Registry,
    settings: Settings,
    version: int,
    turn: AbstractContextManager[object],
    encoder: Encoder | None = None,
) -> Served:
    """Fetches a version, warms it up, each time in a `turn` among real judgements, and keeps it on this machine.
    `encoder` is that of the version served now.

    Raises UserError if it cannot be loaded, knows no category, gives no finite score or scores a picture of its own
    otherwise than it did.
    """
    wanted, kept = _wanted(settings), _kept(settings)
    try:
        with kept.fetching() as folder:
            loaded = registry.load_into(folder, settings.model, version, wanted, encoder)
            served = _warm(loaded, settings, version, turn)
            kept.keep(folder, version, fetched.wanted_weights(folder, wanted))
            return served
    except (UserError, OSError) as error:
        if not is_of_a_full_disk(error):
            raise
    log.warning(
        "version %d is not kept for a start without the registry: the disk of %s is full", version, settings.keep
    )
    return _warm(registry.load(settings.model, version, wanted, encoder), settings, version, turn)


def _load_kept(settings: Settings, turn: AbstractContextManager[object]) -> Served | None:
    try:
        with _kept(settings).latest() as kept:
            if kept is None:
                return None
            found = fetched.load(kept.folder, settings.model, kept.version, _wanted(settings), None, download_weights)
        return _warm(found, settings, kept.version, turn)
    except (UserError, OSError, ValueError):  # of a folder that somebody changed, too
        return None


def _warm(loaded: Loaded, settings: Settings, version: int, turn: AbstractContextManager[object]) -> Served:
    """Judges a grey image of each category: the first real one finds it warm. Then the pictures that go with it."""
    detector = loaded.detector
    if not detector.thresholds:
        raise UserError(f"version {version} of {settings.model} has no thresholds: calibrate it before promoting it.")
    side = detector.encoder.transform.crop
    grey = Image.new("RGB", (side, side), "grey")
    for category in detector.thresholds:
        with turn:
            score = detector.predict([grey], [category]).scores[0]
        if not np.isfinite(score):
            raise UserError(f"version {version} of {settings.model} gives a score that is not finite: train it again.")
    try:
        challenged = check_challenges(detector, turn)
    except UserError as error:
        raise UserError(f"version {version} of {settings.model} is not what was calibrated: {error}") from None
    return Served(detector, version, loaded.digest, loaded.notice, challenged)


def _wanted(settings: Settings) -> Wanted:
    return Wanted(
        best_device() if settings.gpus else torch.device("cpu"),
        settings.encoder_weights,
        settings.verify_key,
        settings.backend,
        settings.precision,
    )


def _kept(settings: Settings) -> Kept:
    try:
        folder = Path(settings.keep).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"--keep is {settings.keep}, and this user has no home folder: give another.") from None
    return Kept(folder, settings.tracking_uri, settings.model, settings.alias)
