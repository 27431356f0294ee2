"""Whether the encoder on hand is the one that made the features."""

from inpformer.encoders.encoder import Encoder
from inpformer.errors import StaleFeaturesError
from pipelines.features.index import FeatureIndex


def check_encoder(encoder: Encoder, index: FeatureIndex) -> None:
    """Raises StaleFeaturesError if the weights are no longer those that made the features."""
    if encoder.key != index.encoder_key:
        raise StaleFeaturesError(
            f"the weights of {index.encoder.name} in {index.encoder.weights} changed since the features were computed: "
            "put the old ones back, or compute the features again."
        )
