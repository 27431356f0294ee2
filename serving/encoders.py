"""Which encoder a version gets: the one that is loaded already, the weights that the operator names, or its own."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.judging.detector import CONFIG_FILE


@dataclass
class EncoderChoice:
    """Chooses for one version, whose encoder has `digest`. `loaded` is the encoder of the version served now, on the
    device that this one goes to; `weights` the operator's file, which belongs to one encoder while versions may have
    others; `load` makes an encoder. `notice` says afterwards that the operator's file was not used, and why.
    """

    digest: str
    loaded: Encoder | None
    weights: str | None
    load: Callable[[EncoderSettings], Encoder]
    notice: str | None = None

    def __call__(self, wanted: EncoderSettings) -> Encoder:
        """Raises UserError if none of them can be had. That the digest is right the detector checks."""
        if self.loaded is not None and self.loaded.digest == self.digest and _same_view(self.loaded.settings, wanted):
            return self.loaded
        if self.weights is None:
            return self.load(wanted)
        try:
            encoder = self.load(replace(wanted, weights=self.weights))
            if encoder.digest == self.digest:
                return encoder
            reason = f"they are {encoder.digest[:12]}, it wants {self.digest[:12]}"
        except UserError as error:
            reason = str(error).rstrip(".")
        self.notice = f"the encoder weights {self.weights} are not this version's ({reason}): its own are used instead."
        try:
            return self.load(wanted)
        except UserError as error:
            raise UserError(f"neither {self.weights} ({reason}) nor its own encoder can be used: {error}") from None


def encoder_digest(detector: Path) -> str:
    """What a detector's folder says of its encoder; empty if it says nothing, which loading it will refuse."""
    return _read(detector, lambda config: config["encoder_digest"])


def encoder_weights(detector: Path) -> str:
    """Where a detector's folder says that its encoder's weights lie; empty as above."""
    return _read(detector, lambda config: config["encoder"]["weights"])


def _read(detector: Path, key: Callable[[Any], Any]) -> str:
    try:
        return str(key(json.loads((detector / CONFIG_FILE).read_text())))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _same_view(one: EncoderSettings, other: EncoderSettings) -> bool:
    """Whether two settings differ at most in where the weights come from."""
    nowhere = {"weights": "", "weights_sha256": None}
    return asdict(one) | nowhere == asdict(other) | nowhere
