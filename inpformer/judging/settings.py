"""The section `calibrate` of params.yaml: what thresholds are to promise."""

from dataclasses import dataclass

from inpformer.config import require


@dataclass(frozen=True)
class CalibrationSettings:
    """What is asked for.

    `false_alarm_rate`: the largest share of good parts that may FAIL. `confidence`: null promises that share on
    average over calibrations; 0.95 promises it for this very calibration, with that probability, and takes more
    images. `review_rate`: the further share of good parts that may go to REVIEW; 0 leaves only PASS and FAIL.
    `unseen`: somebody says that the model was not trained on the held-out images, which counts where it is not known
    what it was trained on. `folds`: null sets the thresholds from the held-out images alone; a number K trains K models
    and sets them from all good images, each judged by a model that has not seen it (see `inpformer.judging.cross`).
    """

    false_alarm_rate: float = 0.05
    confidence: float | None = None
    review_rate: float = 0.0
    unseen: bool = False
    folds: int | None = None

    def __post_init__(self) -> None:
        require(0 < self.false_alarm_rate < 1, "false_alarm_rate", self.false_alarm_rate, "between 0 and 1, e.g. 0.05")
        require(
            self.confidence is None or 0 < self.confidence < 1,
            "confidence",
            self.confidence,
            "between 0 and 1, e.g. 0.95, or null",
        )
        most = 1 - self.false_alarm_rate
        require(0 <= self.review_rate < most, "review_rate", self.review_rate, f"0 or more, and below {most:g}")
        require(self.folds is None or self.folds >= 2, "folds", self.folds, "at least 2, e.g. 10, or null")
        right = "null with folds, whose promise holds on average alone"
        require(self.folds is None or self.confidence is None, "confidence", self.confidence, right)
