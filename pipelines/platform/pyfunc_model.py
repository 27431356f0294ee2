"""The detector as an MLflow pyfunc model, logged as code: for `mlflow models` and batch jobs, not for our serving."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from inpformer.encoders.encoder import load_fetched
from inpformer.errors import UserError
from inpformer.images.opening import open_image
from inpformer.judging.detector import Detector


class DetectorModel(PythonModel):
    """Takes image files as bytes, gives each its image score; holds no thresholds against them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the detector folder that came with the model; an encoder's weights in S3 MLflow fetches."""
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            fetch = partial(download_artifacts, dst_path=folder)
            load = partial(load_fetched, fetch=fetch)
            self.detector = Detector.load(Path(context.artifacts["detector"]), load=load)

    def predict(
        self, context: PythonModelContext, model_input: list[bytes], params: dict[str, Any] | None = None
    ) -> list[float]:
        """Image files as bytes to image scores; higher is more anomalous. Raises UserError if each category has a
        model, or held-out parts, of its own: a bare image does not say which.
        """
        if self.detector.folds:
            raise UserError("this detector has models of folds: ask the service, which is told the category.")
        if len(self.detector.models) > 1:
            raise UserError("this detector has a model a category: ask the service, which is told the category.")
        category = next(iter(self.detector.models))
        images = (open_image(content, f"image {number}") for number, content in enumerate(model_input))
        return [float(score) for image in images for score in self.detector.predict([image], [category]).scores]


set_model(DetectorModel())
