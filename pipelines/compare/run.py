"""The comparison from what is asked for to the page: what is finished is kept, and not done again."""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from inpformer.errors import without_password
from inpformer.judging.settings import CalibrationSettings
from pipelines.compare.asked import Asked
from pipelines.compare.comparison import Judgements, compare, lines_of
from pipelines.compare.costs import costs_of
from pipelines.compare.data import Data, open_data
from pipelines.compare.disagreement import disagreements
from pipelines.compare.findings import Findings, sentences, write
from pipelines.compare.judgement import Judgement, Rules, judge, read_judgement
from pipelines.compare.notes import notes_of
from pipelines.compare.page import page
from pipelines.compare.records import log_findings, log_training, nested_run, open_run
from pipelines.compare.trainings import Training, begin, plan, train
from pipelines.platform import files
from pipelines.platform.params import read_section
from pipelines.platform.tracking import tracking_uri
from pipelines.promote.compare import bootstrap_of
from pipelines.promote.settings import PromoteSettings

PAGE = "index.html"


def run(asked: Asked, args: Namespace) -> None:
    """Trains what is missing, judges, and leaves the page and its numbers."""
    data = open_data(args, asked.methods)
    # One model a method: thresholds are of the held-out images, whatever calibrate.folds says.
    promise = replace(read_section("calibrate", CalibrationSettings), folds=None)
    rules = Rules(promise, bootstrap_of(read_section("promote", PromoteSettings)))
    trainings = plan(asked.trainings, data, args.keep)
    places = [args.keep / "judged" / rules.key(one, data.linked) for one in trainings]
    key = hashlib.sha256("".join(place.name for place in places).encode()).hexdigest()[:16]
    parent = open_run(key, trainings, data)
    with parent.underway():
        earlier = parent.nested()
        runs = [nested_run(parent, one, earlier) for one in trainings]
        missing = begin([one for one in trainings if not one.finished], data, parent)
        where = without_password(tracking_uri())
        print(f"{len(missing)} of {len(trainings)} trainings to do, MLflow run {parent.run_id} at {where}", flush=True)
        for number, one in enumerate(train(missing, data), 1):
            print(f"trained {number}/{len(missing)}: {one.name} ({one.record['seconds']:.0f} s)", flush=True)
        judgements: dict[str, list[Judgement]] = {}
        for number, (one, place, own_run) in enumerate(zip(trainings, places, runs, strict=True), 1):
            known = place.is_dir()
            judgement = read_judgement(place) if known else judge(one, data, rules, place)
            judgements.setdefault(one.settings.method, []).append(judgement)
            log_training(own_run, one, judgement)
            print(f"judged {number}/{len(trainings)}: {one.name}{' (before)' if known else ''}", flush=True)
        found = _found(trainings, judgements, data, rules)
        with files.written_whole(args.out) as folder:
            folder.mkdir(parents=True)
            write(found, folder)
            (folder / PAGE).write_text(page(found), encoding="utf-8")
        log_findings(parent, found, args.out)
    print("\n".join([*sentences(found), f"The page: {args.out / PAGE}"]), flush=True)


def _found(trainings: Sequence[Training], judgements: Judgements, data: Data, rules: Rules) -> Findings:
    lines = {
        scope: list(zip(own, compare(judgements, own, rules.draws.confidence), strict=True))
        for scope, own in lines_of(judgements).items()
    }
    return Findings(
        data.learnt_from.setting,
        {method: len(own) for method, own in judgements.items()},
        rules.draws.confidence,
        lines,
        costs_of(trainings, judgements, data),
        notes_of(judgements, data, rules),
        disagreements(judgements, data),
    )
