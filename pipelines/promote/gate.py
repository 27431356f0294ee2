"""The gate: a challenger against the champion on the same test images, or against chance and a baseline where there is
no champion yet. The verdict is logged whichever way it falls.
"""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipelines.platform.registry import Version, set_version_tags
from pipelines.platform.runs import Run
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import Verdict

VERDICT_FILE, PAGE_FILE, FOREST_FILE = "verdict.json", "index.html", "differences.png"
# What a version says of the last time that it was weighed; the digest is of verdict.json.
OUTCOME_TAG, AGAINST_TAG, VERDICT_TAG = "verdict.outcome", "verdict.against", "verdict.digest"
BASELINES = "baselines"


def weigh(
    model_name: str, challenger: Version, champion: Version | None, settings: PromoteSettings, folder: Path
) -> Verdict:
    """Judges the test images of the newer one with both, and writes verdict.json, index.html and differences.png into
    `folder`, which is there and empty; logs them to the challenger's run.

    Raises UserError where nothing can be said: a version without test images, images that are not on this machine or
    are others now, weights that are not there. Then nothing is logged.
    """
    # Only here: the judging needs torch, which whoever asks for nothing but an alias should not wait for.
    from pipelines.promote.weighing import weighed

    found = weighed(model_name, challenger, champion, settings, folder / FOREST_FILE)
    (folder / PAGE_FILE).write_text(found.page(folder / FOREST_FILE), encoding="utf-8")
    against = champion.number if champion else BASELINES
    under = f"promotion/{challenger.number}-against-{against}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    verdict = Verdict(
        outcome=found.outcome,
        allows=found.allows,
        sentence=found.sentence,
        challenger=challenger.number,
        champion=champion.number if champion else None,
        details=found.details,
        digest="",
        page=f"runs:/{challenger.run_id}/{under}/{PAGE_FILE}",
    )
    content = json.dumps(verdict.content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / VERDICT_FILE).write_text(content, encoding="utf-8")
    digest = hashlib.sha256(content.encode()).hexdigest()
    # The files first: a version is not to point at a verdict that is nowhere.
    Run(challenger.run_id).log_files(folder, under)
    tags = {OUTCOME_TAG: found.outcome, AGAINST_TAG: against, VERDICT_TAG: digest}
    set_version_tags(model_name, challenger.number, tags)
    return replace(verdict, digest=digest)
