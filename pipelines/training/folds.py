"""Models of folds: which fold each good part lies in, and the training of a model without each."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from inpformer.errors import UserError
from inpformer.judging.cross import equal_folds
from inpformer.judging.learnt import ALL
from inpformer.judging.seen import BY_ALL
from inpformer.methods.base import Model
from inpformer.methods.modes import SINGLE_CLASS
from pipelines.features.anomalies import Showing
from pipelines.features.index import row_views
from pipelines.gate.linked import Linked, good_parts
from pipelines.manifest.table import Row, good_rows
from pipelines.training.job import Fold, History, Job, train_tasks, warn_if_short


def assign_folds(rows: Iterable[Row], folds: int, linked: Linked | None = None) -> dict[str, int]:
    """By the sha256 of each good image that is not for the test, the number of its fold, or BY_ALL for parts that are
    left over. The parts of each category are spread over `folds` of equal size (over as many as there are parts, where
    these are fewer), by their content alone; copies, images of one part and those that are `linked` lie in one.

    A part whose defect is learnt from is left over too: all models have seen it.

    Raises UserError for a category of one part, and for an image that several categories have.
    """
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.split != "test" and (not row.label or row.split == "train"):
            by_category[row.category].append(row)
    assigned: dict[str, int] = {}
    for category, members in sorted(by_category.items()):
        shown, learnt = good_parts(members, linked or Linked())
        count, size = equal_folds(len(shown), folds)
        if count < 2:
            raise UserError(
                f"category {category} has {len(shown)} good parts to leave out: calibrate.folds takes two or more, add "
                "some."
            )
        of_rank = [rank % count if rank < count * size else BY_ALL for rank in range(len(shown))]
        spread = zip(sorted(shown, key=_content), of_rank, strict=True)
        for images, fold in (*spread, *((images, BY_ALL) for images in learnt)):
            if twice := images & assigned.keys():
                path = next(row.path for row in members if row.sha256 in twice)
                raise UserError(f"{path} is in another category too: with calibrate.folds, leave one of them out.")
            assigned |= dict.fromkeys(images, fold)
    return assigned


def _content(images: set[str]) -> str:
    """Chance, as far as the pictures go, and not more or less for a part of many images."""
    return hashlib.sha256("".join(sorted(images)).encode()).hexdigest()


def train_folds(
    job: Job, assigned: Mapping[str, int], showing: Showing | None = None
) -> tuple[dict[str, list[Model]], dict[str, History]]:
    """A model without each fold, and of single-class without each of each category's, all as parallel Ray tasks; the
    histories by the names of the tasks. The `val_loss` is of the fold that is left out: nothing may be chosen by it, or
    the fold would not be unseen. Where pictures with defects are learnt from, `showing` says which show a fold.

    Raises what `train_apart` raises.
    """
    single = job.settings.setting == SINGLE_CLASS
    left_out: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in good_rows(job.manifest.rows):
        if assigned[row.sha256] != BY_ALL:
            left_out[row.category if single else ALL, assigned[row.sha256]].append(row)
    tasks = {_task(*key): (key, fold_of(job, rows, showing)) for key, rows in sorted(left_out.items())}
    configs = {task: job.loop(key[0] or None, fold) for task, (key, fold) in tasks.items()}
    for name in sorted({name for name, _ in left_out}):
        warn_if_short(configs[_task(name, 0)], name or None)
    models, histories = train_tasks(job, configs)
    made: dict[str, list[Model]] = defaultdict(list)
    for task, ((name, _), _) in tasks.items():
        made[name].append(models[task])
    return dict(made), histories


def fold_of(job: Job, rows: Sequence[Row], showing: Showing | None) -> Fold:
    """What the model without these images is not to learn from."""
    views = b"".join(
        bytes.fromhex(view.key(row.sha256))
        for row in rows
        for view in row_views(row, job.index.tiling, job.manifest.shots, job.index.encoder.white)
    )
    if showing is None:
        return Fold(views)
    images = {row.sha256 for row in rows}
    made = set[bytes]().union(*(showing.made.get(image, ()) for image in images))
    filled = set[bytes]().union(*(showing.filled.get(image, ()) for image in images))
    return Fold(views, b"".join(sorted(made)), b"".join(sorted(filled - made)))


def _task(name: str, fold: int) -> str:
    return f"{name} without fold {fold}".strip()
