"""The whole gate: versions in a real registry on SQLite, judged, compared, written and logged."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inpformer.encoders.encoder import Encoder
from pipelines.manifest.table import Manifest
from pipelines.platform.registry import Version
from pipelines.promote.gate import weigh
from pipelines.promote.settings import Margins, PromoteSettings
from pipelines.promote.verdict import Verdict
from tests.promote.products import NAME, guessing, looking, products, registered

WIDE = Margins(0.4, 0.4, 0.4, 0.45, 0.45)
SETTINGS = PromoteSettings(margins=WIDE, category_margin=0.7, replicates=1000)
PARAMS = {"train": {"nearest": {"grid": 4, "channels": 32}}}


@dataclass(frozen=True)
class Made:
    """A registry in the working directory, and what is in it."""

    manifest: Manifest
    folder: Path
    guess: Version
    look: Version

    def weigh(self, challenger: Version, champion: Version | None, settings: PromoteSettings = SETTINGS) -> Verdict:
        """Into the folder `verdict`, which is empty before."""
        shutil.rmtree(self.folder / "verdict", ignore_errors=True)
        (self.folder / "verdict").mkdir()
        return weigh(NAME, challenger, champion, settings, self.folder / "verdict")


@pytest.fixture(scope="module")
def made(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("params.yaml").write_text(json.dumps(PARAMS))  # JSON is YAML
        manifest = products(Path("data"))
        guess = registered(guessing(encoder, manifest, 1), manifest, folder, "guess")
        look = registered(looking(encoder, manifest, folder / "store"), manifest, folder, "look")
        yield Made(manifest, folder, guess, look)


@pytest.fixture(scope="module")
def better(made: Made) -> Verdict:
    return made.weigh(made.look, made.guess)


def test_p(better: Verdict) -> None:
    print(json.dumps(better.as_json(), indent=1))
