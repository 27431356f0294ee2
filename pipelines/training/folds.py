"""Models of folds: which fold each good part lies in, and the training of a model without each."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from inpformer.errors import UserError
from inpformer.judging.cross import equal_folds
from inpformer.judging.learnt import ALL
from inpformer.judging.parts import parts_of
from inpformer.judging.seen import BY_ALL
from inpformer.methods.base import Model
from inpformer.methods.modes import SINGLE_CLASS
from pipelines.features.index import row_views
from pipelines.manifest.table import Row, good_rows
from pipelines.training.job import History, Job, train_tasks, warn_if_short


def assign_folds(rows: Iterable[Row], folds: int, linked: Callable[[str], str] = lambda path: "") -> dict[str, int]:
    """By the sha256 of each good image that is not for the test, the number of its fold, or BY_ALL for parts that are
    left over. The parts of each category are spread over `folds` of equal size (over as many as there are parts, where
    these are fewer), by their content alone; copies, images of one part and those of one group, which `linked` names by
    a path, lie in one.

    Raises UserError for a category of one part, and for an image that several categories have.
    """
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in good_rows(rows):
        by_category[row.category].append(row)
    assigned: dict[str, int] = {}
    for category, members in sorted(by_category.items()):
        shown: dict[int, set[str]] = defaultdict(set)
        parts = parts_of(
            [row.part for row in members], [row.sha256 for row in members], [linked(row.path) for row in members]
        )
        for row, part in zip(members, parts, strict=True):
            shown[int(part)].add(row.sha256)
        count, size = equal_folds(len(shown), folds)
        if count < 2:
            raise UserError(f"category {category} has one good part: calibrate.folds takes two or more, add some.")
        for rank, images in enumerate(sorted(shown.values(), key=_content)):
            fold = rank % count if rank < count * size else BY_ALL
            if twice := images & assigned.keys():
                path = next(row.path for row in members if row.sha256 in twice)
                raise UserError(f"{path} is in another category too: with calibrate.folds, leave one of them out.")
            assigned |= dict.fromkeys(images, fold)
    return assigned


def _content(images: set[str]) -> str:
    """Chance, as far as the pictures go, and not more or less for a part of many images."""
    return hashlib.sha256("".join(sorted(images)).encode()).hexdigest()


def train_folds(job: Job, assigned: Mapping[str, int]) -> tuple[dict[str, list[Model]], dict[str, History]]:
    """A model without each fold, and of single-class without each of each category's, all as parallel Ray tasks; the
    histories by the names of the tasks. The `val_loss` is of the fold that is left out: nothing may be chosen by it, or
    the fold would not be unseen.

    Raises what `train_apart` raises.
    """
    single = job.settings.setting == SINGLE_CLASS
    views: dict[tuple[str, int], bytearray] = defaultdict(bytearray)
    for row in good_rows(job.manifest.rows):
        if assigned[row.sha256] != BY_ALL:
            for view in row_views(row, job.index.tiling, job.manifest.shots):
                name = row.category if single else ALL
                views[name, assigned[row.sha256]] += bytes.fromhex(view.key(row.sha256))
    tasks = {_task(*key): (key, bytes(left_out)) for key, left_out in sorted(views.items())}
    configs = {task: job.loop(key[0] or None, left_out) for task, (key, left_out) in tasks.items()}
    for name in sorted({name for name, _ in views}):
        warn_if_short(configs[_task(name, 0)], name or None)
    models, histories = train_tasks(job, configs)
    made: dict[str, list[Model]] = defaultdict(list)
    for task, ((name, _), _) in tasks.items():
        made[name].append(models[task])
    return dict(made), histories


def _task(name: str, fold: int) -> str:
    return f"{name} without fold {fold}".strip()
