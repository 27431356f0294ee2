"""What Ray tells of the trials as they go: a nested MLflow run for each, and a line for each that ended."""

from collections.abc import Mapping
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune import Callback
from ray.tune.experiment import Trial

from inpformer.errors import UserError
from pipelines.platform import tracking
from pipelines.platform.runs import PARENT_TAG, Run

METRICS = ("objective", "miss_rate", "image_ap", "pixel_ap", "val_loss")


class TrialRuns(MLflowLoggerCallback):
    """A nested run a trial, below the unfinished run with the key. A trial that goes on after an interruption, goes on
    in its own run. Holds names alone: Ray saves it with the search, and the server may be another one then.
    """

    def __init__(self, run_key: str) -> None:
        super().__init__(experiment_name=tracking.EXPERIMENT)
        self._run_key = run_key
        self.patience = tracking.PATIENCE  # a search is under way

    @tracking.reaching_mlflow
    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Finds the parent."""
        parent = Run.unfinished(self._run_key)
        if parent is None:
            raise UserError("the MLflow run of this search is gone: run the same command again.")
        self.tracking_uri, self._parent_id = parent.uri, parent.run_id
        self.tags = {PARENT_TAG: parent.run_id}
        super().setup(*args, **kwargs)  # type: ignore[no-untyped-call]

    @tracking.reaching_mlflow
    def log_trial_start(self, trial: Trial) -> None:
        """Opens the trial's run, again if need be, with its values as parameters."""
        if trial not in self._trial_runs:
            # Of an interrupted search, or of a call whose answer was lost.
            earlier = Run(self._parent_id, self.tracking_uri).nested()
            if str(trial) in earlier:
                self._trial_runs[trial] = earlier[str(trial)]
                Run(self._trial_runs[trial], self.tracking_uri).reopen()
        super().log_trial_start(trial)

    @tracking.reaching_mlflow
    def log_trial_result(self, iteration: int, trial: Trial, result: Mapping[str, Any]) -> None:
        """The metrics by epoch."""
        run = Run(self._trial_runs[trial], self.tracking_uri)
        metrics = {name: result[name] for name in METRICS if result.get(name) is not None}
        run.log_metrics(metrics, step=result["epoch"])

    @tracking.reaching_mlflow
    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """A trial that ASHA stopped has finished too; one whose process did not start has no run."""
        if trial in self._trial_runs:
            super().log_trial_end(trial, failed)


class Lines(Callback):
    """A line for each trial that ended."""

    def __init__(self, trials: int, epochs: int) -> None:
        self._trials, self._epochs = trials, epochs

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says what it reached."""
        self._say(trials, trial, _reached(trial.last_result, self._epochs))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says that it failed; why, the end of the search says."""
        self._say(trials, trial, "failed")

    def _say(self, trials: list[Trial], trial: Trial, what: str) -> None:
        ended = sum(other.is_finished() for other in trials if other is not trial) + 1
        values = ", ".join(f"{name} {value:.4g}" for name, value in trial.config.items())
        print(f"trial {ended}/{self._trials}: {what}  ({values})", flush=True)


def _reached(result: Mapping[str, Any], epochs: int) -> str:
    if "objective" not in result:
        return "not judged"
    stopped = "" if result["epoch"] >= epochs else f", stopped after {result['epoch']} of {epochs} epochs"
    return f"objective {result['objective']:.4f}{stopped}"
