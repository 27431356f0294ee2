"""Training for `calibrate.folds`: a model without each fold of the good images, instead of one with all of `train`."""

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import LearntFrom
from inpformer.judging.seen import SeenImages
from inpformer.methods.modes import SEMI_SUPERVISED
from inpformer.training.settings import TrainSettings
from pipelines.features.anomalies import showing
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked
from pipelines.training.folds import assign_folds, train_folds
from pipelines.training.job import History, Job


def refuse_folds(settings: TrainSettings, shots: int | None) -> None:
    """Raises UserError where there is nothing to train, or models of folds would promise nothing."""
    if settings.weights is not None:
        raise UserError("params.yaml: calibrate.folds trains models of its own: set it, or train.weights, to null.")
    if shots is not None:
        raise UserError(
            "params.yaml: manifest.shots leaves good images out that calibrate.folds would use: set one of the two to "
            "null."
        )


def train_across(
    job: Job, stored: FeatureSettings, learnt_from: LearntFrom, folds: int, linked: Linked
) -> tuple[Detector, dict[str, History]]:
    """Trains in the setting asked for, without each of so many folds of the good images; returns the detector, not
    calibrated yet, and the histories by the names of the trainings. Images that are `linked` show one part.
    """
    assigned = assign_folds(job.manifest.rows, folds, linked)
    real = job.settings.setting == SEMI_SUPERVISED
    shown = showing(job.manifest, stored, real) if job.settings.kind.anomalies else None
    models, histories = train_folds(job, assigned, shown)
    method, own, seen = job.settings.kind, job.settings.own, SeenImages.of_folds(assigned)
    return Detector(job.encoder, method, own, {}, learnt_from, {}, job.index.tiling, seen, models), histories
