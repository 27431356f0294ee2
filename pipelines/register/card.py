"""A version's model card: README.md in Hugging Face's model-card format, which people and tools read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from inpformer.methods import find_method
from pipelines.manifest.table import Manifest

FILE = "README.md"
# In the card's metadata, by what they are called there.
METRICS = {
    "miss_rate": "miss rate",
    "false_alarm_rate": "false-alarm rate",
    "image_auroc": "image AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "spro": "sPRO up to a false-positive rate of 0.05",
}
LIMITS = """\
- It knows the categories above, in pictures taken as those that it was trained on. Of another product, camera or light
  its scores and thresholds say nothing.
- What good parts never showed counts as an anomaly, harmless or not; a defect that looks like a good part passes. The
  miss rate above says how often that happened on the test images.
- The false-alarm rate is promised for parts like the held-out ones, if these are unseen and independent. The report
  says whether it held on the test images.
- It gives a decision for each picture. Who decides about people's safety by it must add checks of their own."""


@dataclass(frozen=True)
class Card:
    """What the card is made of: the numbers and the report of `evaluate`, detector.json, calibration.json and
    provenance.json as they were read.
    """

    model_name: str
    setting: str
    manifest: Manifest
    numbers: Mapping[str, Any]
    report: str
    detector: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    made_of: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The whole card."""
        title = f"# {self.model_name}: {self.detector['method']}, {self.setting}"
        sections = {
            "What it is": self._what(),
            "Data": self._data(),
            "How good it is": self.report.strip(),
            "Thresholds": self._limits(),
            "Limits": LIMITS,
            "How it was made": self._made(),
        }
        body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items())
        return f"---\n{self._metadata()}\n---\n\n{title}\n\n{body}\n"

    def _metadata(self) -> str:
        data = self.manifest.root.name
        results = [
            EvalResult(
                task_type="anomaly-detection",
                dataset_type=data,
                dataset_name=data,
                dataset_split="test",
                dataset_revision=self.manifest.digest,
                metric_type=name,
                metric_name=f"{words}, mean over the categories",
                metric_value=self.numbers["mean"][name],
            )
            for name, words in METRICS.items()
            if name in self.numbers["mean"]
        ]
        encoder = self.detector["encoder"]["name"]
        tags = ["anomaly-detection", "visual-inspection", self.detector["method"], self.setting]
        card = ModelCardData(
            model_name=self.model_name,
            library_name="inpformer",
            tags=tags,
            base_model=f"timm/{encoder}",
            eval_results=results,
        )
        return str(card.to_yaml())

    def _what(self) -> str:
        encoder = self.detector["encoder"]
        return (
            f"An anomaly detector that says of a picture of a part whether to PASS it, to REVIEW it or to FAIL it, and "
            f"where the anomaly is. Method `{self.detector['method']}`, setting {self.setting}, on the frozen encoder "
            f"`{encoder['name']}` (digest {self.detector['encoder_digest'][:12]}) at {encoder['crop']} px."
        )

    def _data(self) -> str:
        rows = self.manifest.rows
        use = "trained on" if find_method(self.detector["method"]).learns else "not used"
        lines = [
            f"| category | good, {use} | good, held out | good, test | defective, test |",
            "|---|---|---|---|---|",
        ]
        for category in self.manifest.categories:
            mine = [row for row in rows if row.category == category]
            good = {
                split: sum(row.split == split and not row.label for row in mine) for split in ("train", "val", "test")
            }
            bad = sum(row.split == "test" and row.label > 0 for row in mine)
            lines.append(f"| {_cell(category)} | {good['train']} | {good['val']} | {good['test']} | {bad} |")
        taught = sum(row.split == "train" and row.label > 0 for row in rows)
        more = f"\n\n{taught} pictures with real defects were there to learn from." if taught else ""
        table = "\n".join(lines)
        return f"{self.manifest.root.as_posix()}, digest {self.manifest.digest}\n\n{table}{more}"

    def _limits(self) -> str:
        lines = [
            "| category | FAIL above | REVIEW above | false alarms at most | how sure | held-out parts |",
            "|---|---|---|---|---|---|",
        ]
        for category, one in self.thresholds.items():
            sure = "on average" if one["confidence"] is None else f"{one['confidence']:g}"
            promised = f"{one['false_alarm_rate']:.2%}" + ("" if one["unseen"] != "unknown" else ", not promised")
            cells = (f"{one['threshold']:.4f}", f"{one['review_threshold']:.4f}", promised, sure, len(one["scores"]))
            lines.append(f"| {_cell(category)} | {' | '.join(map(str, cells))} |")
        return "\n".join(lines)

    def _made(self) -> str:
        changed: Sequence[str] | None = self.made_of["git.uncommitted"]
        state = "whether it was changed is not known" if changed is None else "unchanged"
        if changed:
            state = f"changed in {', '.join(changed)}"
        return (
            f"Code {self.made_of['git.commit']}, {state}; MLflow run {self.made_of['run_id']}. `provenance.json`, "
            "beside this card, has all parameters and the hashes of what it was made of. The same commit, data and "
            "parameters give it again: `git checkout` the commit, `dvc pull`, `dvc repro`."
        )


def _cell(text: str) -> str:
    """In a table, where neither a line nor a column may end in it."""
    return " ".join(text.split()).replace("|", "\\|")


def read(
    model_name: str,
    setting: str,
    manifest: Manifest,
    numbers: Mapping[str, Any],
    report: Path,
    detector: Path,
    made_of: Mapping[str, Any],
) -> Card:
    """The card of a detector's folder that was evaluated so."""
    of_detector, thresholds = (
        json.loads((detector / f"{name}.json").read_text()) for name in ("detector", "calibration")
    )
    return Card(model_name, setting, manifest, numbers, report.read_text(), of_detector, thresholds, made_of)
