"""The comparison from what is asked for to the page: what is finished is kept, and not done again."""

import hashlib
import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from inpformer.errors import without_password
from inpformer.judging.settings import CalibrationSettings
from inpformer.metrics.settings import BootstrapSettings
from pipelines.compare.asked import Asked
from pipelines.compare.comparison import Judgements, compare, lines_of
from pipelines.compare.costs import costs_of
from pipelines.compare.data import Data, open_data
from pipelines.compare.disagreement import disagreements
from pipelines.compare.findings import Findings, sentences, write
from pipelines.compare.judgement import Judgement, judge, read_judgement
from pipelines.compare.notes import notes_of
from pipelines.compare.page import page
from pipelines.compare.records import log_findings, log_judgement, log_training, nested_run, open_run
from pipelines.compare.trainings import Training, begin, plan, train
from pipelines.platform import files, provenance
from pipelines.platform.params import read_section
from pipelines.platform.runs import Run
from pipelines.platform.tracking import tracking_uri
from pipelines.promote.compare import bootstrap_of
from pipelines.promote.settings import PromoteSettings

PAGE = "index.html"


def run(asked: Asked, args: Namespace) -> None:
    """Trains what is missing, judges, and leaves the page and its numbers."""
    data = open_data(args, asked.methods)
    # One model a method: thresholds are of the held-out images, whatever calibrate.folds says.
    promise = replace(read_section("calibrate", CalibrationSettings), folds=None)
    draws = bootstrap_of(read_section("promote", PromoteSettings))
    trainings = plan(asked.trainings, data, args.keep)
    keys = [_judgement_key(one, data, promise, draws) for one in trainings]
    parent = open_run(hashlib.sha256("".join(keys).encode()).hexdigest()[:16], trainings, data)
    with parent.underway():
        earlier = parent.nested()
        runs = {one.key: nested_run(parent, one, earlier) for one in trainings}
        missing = begin([one for one in trainings if not one.finished], data, parent)
        where = without_password(tracking_uri())
        print(f"{len(missing)} of {len(trainings)} trainings to do, MLflow run {parent.run_id} at {where}", flush=True)
        for number, one in enumerate(train(missing, data), 1):
            print(f"trained {number}/{len(missing)}: {one.name} ({one.record['seconds']:.0f} s)", flush=True)
        for one in trainings:
            log_training(runs[one.key], one)
        judgements = _judge_all(trainings, keys, data, promise, draws, args.keep, runs)
        found = _found(trainings, judgements, data, promise, draws)
        with files.written_whole(args.out) as folder:
            folder.mkdir(parents=True)
            write(found, folder)
            (folder / PAGE).write_text(page(found), encoding="utf-8")
        log_findings(parent, found, args.out)
    print("\n".join([*sentences(found), f"The page: {args.out / PAGE}"]), flush=True)


def _judgement_key(training: Training, data: Data, promise: CalibrationSettings, draws: BootstrapSettings) -> str:
    """Names a judgement: equal for equal trainings, code, promise and draws."""
    rooms = ("inpformer", "pipelines/calibrate", "pipelines/evaluate", "pipelines/promote", "pipelines/compare")
    linked = (data.linked.looked, data.linked.groups)
    identity = [training.key, provenance.source_digest(*rooms), asdict(promise), asdict(draws), linked]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _judge_all(
    trainings: Sequence[Training],
    keys: Sequence[str],
    data: Data,
    promise: CalibrationSettings,
    draws: BootstrapSettings,
    keep: Path,
    runs: dict[str, Run],
) -> Judgements:
    """By method, one a seed."""
    judgements: dict[str, list[Judgement]] = {}
    for number, (one, key) in enumerate(zip(trainings, keys, strict=True), 1):
        folder = keep / "judged" / key
        known = folder.is_dir()
        found = read_judgement(folder) if known else judge(one, data, promise, draws, folder)
        log_judgement(runs[one.key], found)
        judgements.setdefault(one.settings.method, []).append(found)
        print(f"judged {number}/{len(trainings)}: {one.name}{' (before)' if known else ''}", flush=True)
    return judgements


def _found(
    trainings: Sequence[Training],
    judgements: Judgements,
    data: Data,
    promise: CalibrationSettings,
    draws: BootstrapSettings,
) -> Findings:
    lines = {
        scope: list(zip(own, compare(judgements, own, draws.confidence), strict=True))
        for scope, own in lines_of(judgements).items()
    }
    return Findings(
        data.learnt_from.setting,
        {method: len(own) for method, own in judgements.items()},
        draws.confidence,
        lines,
        costs_of(trainings, judgements, data),
        notes_of(judgements, data, promise, draws),
        disagreements(judgements, data),
    )
