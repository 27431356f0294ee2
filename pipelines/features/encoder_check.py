"""Whether the encoder on hand is the one that made the features."""

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from pipelines.features.index import FeatureIndex


def check_encoder(encoder: Encoder, index: FeatureIndex) -> None:
    """Raises UserError if the weights are no longer those that made the features."""
    if encoder.key != index.encoder_key:
        raise UserError(
            f"the weights of {index.encoder.name} in {index.encoder.weights} changed since the features were computed: "
            "run `dvc repro --force --single-item features`, or put the old ones back."
        )
