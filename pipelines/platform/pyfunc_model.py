"""The detector as an MLflow pyfunc model, logged as code: for `mlflow models serve` and batch jobs, not our serving."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.artifacts import download_artifacts
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from inpformer.encoders.encoder import load_fetched
from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL


class DetectorModel(PythonModel):
    """Takes image files as bytes and their categories, gives image scores and decisions."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the detector folder that came with the model; an encoder's weights in S3 MLflow fetches."""
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            fetch = partial(download_artifacts, dst_path=folder)
            load = partial(load_fetched, fetch=fetch)
            self.detector = Detector.load(Path(context.artifacts["detector"]), load=load)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """From the columns `image` (the bytes of a file) and `category` (needless where there is one) the columns
        `score` (higher is more anomalous), `decision` and `threshold`, which are empty where no category is told.

        Raises UserError for a file that is no image, for an unknown category, and for one that is not told where each
        has a model of its own.
        """
        names = model_input.get("category", pd.Series([None] * len(model_input)))
        rows = [self._judged(*pair) for pair in zip(model_input["image"], names, strict=True)]
        return pd.DataFrame(rows, columns=["score", "decision", "threshold"])

    def _judged(self, content: object, name: object) -> tuple[float, str | None, float | None]:
        # MLflow lets any object through. A path from a request must not become a file of the server's.
        if not isinstance(content, bytes):
            raise UserError(f"the column image holds a {type(content).__name__}: give the bytes of an image file.")
        category = name if isinstance(name, str) else self._only_category()
        if category is None and (self.detector.folds or set(self.detector.models) != {ALL}):
            known = ", ".join(sorted(self.detector.thresholds))
            raise UserError(f"the score depends on the category: name it in the column category, one of {known}.")
        image = self.detector.open(content, "the image")
        prediction = self.detector.predict([image], [category or ALL])
        score = float(prediction.scores[0])
        if category is None:
            return score, None, None
        decided = self.detector.decide(score, prediction.maps[0], prediction.looks[0], image.size, category)
        return score, decided.decision, decided.threshold.threshold

    def _only_category(self) -> str | None:
        return next(iter(self.detector.thresholds)) if len(self.detector.thresholds) == 1 else None


set_model(DetectorModel())
