"""The authors' checkpoints: read as tensors alone, checked, registered, and then given thresholds."""

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from inpformer.errors import UserError
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.nn.maps import image_scores
from pipelines.import_checkpoint import __main__ as import_checkpoint
from pipelines.import_checkpoint.checkpoint import read_tensors
from pipelines.platform.registry import download_detector
from pipelines.platform.tracking import tracking_uri
from pipelines.recalibrate import __main__ as recalibrate
from tests.methods.inp_former.test_golden import GOLDEN
from tests.promote.weighing import promoted

ROOT = Path(__file__).resolve().parents[2]
NAME = "vit_golden"


@register_model
def vit_golden(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """The golden file's encoder, under a name that timm knows."""
    vit = VisionTransformer(
        *(126, 14), embed_dim=32, num_heads=2, num_classes=0, init_values=1.0, reg_tokens=4, no_embed_class=True
    )
    vit.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return vit


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """The golden model in the authors' naming."""
    return {k.removeprefix("model/"): v for k, v in load_file(GOLDEN).items() if k.startswith("model/")}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with params.yaml, which is the working directory."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> None:
    """A command in this process: only here timm knows the golden encoder."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


def bring(monkeypatch: pytest.MonkeyPatch, file: Path, *more: object) -> None:
    sizes = ("--encoder", NAME, "--resize", 70, "--crop", 70)
    call(monkeypatch, import_checkpoint.main, file, *sizes, "--categories", "nut", "bolt", *more)


def test_an_imported_checkpoint_gives_the_golden_outputs(
    workplace: Path, official: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(official, workplace / "model.pth")
    bring(monkeypatch, Path("model.pth"))
    detector = Detector.load(download_detector("inpformer", "1", workplace / "fetched"))
    golden = load_file(GOLDEN)
    model = detector.models[ALL]
    wants = detector.method.wants(detector.settings, detector.encoder.shape)
    with torch.no_grad():
        groups = wants.of(detector.encoder.features(golden["images"][0]))
        maps, zero_shot = (model.maps(groups, 70, zero) for zero in (False, True))
    for ours, name in ((maps, "anomaly_map"), (image_scores(maps), "image_score"), (zero_shot, "zero_shot_map")):
        theirs = golden[f"eval/{name}"].reshape(ours.shape)
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5, name
    assert detector.learnt_from.categories == ("nut", "bolt")
    assert Path(detector.encoder.settings.weights).parent == Path("encoders")


def test_recalibration_makes_it_fit_for_promotion(
    workplace: Path, official: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(official, workplace / "model.safetensors")
    bring(monkeypatch, Path("model.safetensors"))
    with pytest.raises(UserError, match=r"version 1 has no thresholds: run `python -m pipelines\.recalibrate 1`"):
        promoted("challenger")
    rng = np.random.default_rng(0)
    (workplace / "line2").mkdir()
    for number in range(20):
        picture = Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8))
        picture.save(workplace / f"line2/{number}.png")
    arguments = ("challenger", "--category", "nut", "--normals", "line2")
    call(monkeypatch, recalibrate.main, *arguments)
    assert "from 20 good images: false alarms at most 4.76% on average" in capsys.readouterr().out
    client = MlflowClient(tracking_uri())
    version = client.get_model_version_by_alias("inpformer", "challenger")
    assert (str(version.version), version.tags["recalibrated.from"]) == ("2", "1")
    assert version.tags["encoder.digest"] == client.get_model_version("inpformer", "1").tags["encoder.digest"]
    detector = Detector.load(download_detector("inpformer", "2", workplace / "fetched"))
    assert set(detector.thresholds) == {"nut"}
    assert not detector.thresholds["nut"].promised  # nobody has said what the checkpoint was trained on
    scores = sorted(float(detector.predict([Image.open(f)], ["nut"]).scores[0]) for f in Path("line2").iterdir())
    assert detector.thresholds["nut"].threshold == pytest.approx(scores[-1], abs=1e-6)
    assert promoted("challenger") == ("2", None)
    with pytest.raises(UserError, match=r"--category is gear: this detector knows bolt, nut"):
        call(monkeypatch, recalibrate.main, "2", "--category", "gear", "--normals", "line2")
    Path("empty").mkdir()
    with pytest.raises(UserError, match="--normals is empty: there are no images in it"):
        call(monkeypatch, recalibrate.main, "2", "--category", "nut", "--normals", "empty")


def test_an_encoder_of_ones_own_must_be_the_same(
    workplace: Path, official: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(official, workplace / "model.pth")
    bring(monkeypatch, Path("model.pth"))
    (weights,) = Path("encoders").iterdir()
    trained = {k: v for k, v in official.items() if not k.startswith("encoder.")}
    torch.save(trained, workplace / "trained.pth")
    with pytest.raises(UserError, match=r"trained\.pth holds no encoder: give --weights hub, or the path"):
        bring(monkeypatch, Path("trained.pth"))
    bring(monkeypatch, Path("trained.pth"), "--weights", weights)
    other = load_file(weights)
    other["blocks.3.norm1.bias"] += 1
    save_file(other, workplace / "other.safetensors")
    with pytest.raises(UserError, match=r"the encoder in model\.pth is .{12}, vit_golden from other\.safetensors is "):
        bring(monkeypatch, Path("model.pth"), "--weights", "other.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("decoder.3.mlp.fc1.bias"), r"decoder\.3\.mlp\.fc1\.bias is missing, but should be \(128,\)"),
        (lambda s: s.pop("encoder.blocks.2.norm1.bias"), r"blocks\.2\.norm1\.bias is missing, but should be \(32,\)"),
        (lambda s: s.update({"decoder.0.attn.learn_scale": torch.ones(4, 1, 1)}), r"learn_scale is \(4, 1, 1\), but"),
        (lambda s: s.update({"encoder.blocks.12.norm1.bias": torch.ones(32)}), r"blocks\.12.* but should be absent"),
        (lambda s: s.update({"head.weight": torch.ones(2)}), r"head\.weight is no key of an INP-Former checkpoint"),
        (lambda s: s.pop("encoder.register_tokens"), r"encoder\.register_tokens is missing or misshapen"),
        (lambda s: s.update(prototype_token=torch.ones(1, 6, 32)), r"has no prototype_token"),
        (lambda s: s.pop("prototype_token"), r"has no prototype_token: it is no INP-Former checkpoint"),
    ],
)
def test_every_key_and_shape_is_checked(
    workplace: Path,
    official: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Tensor]], object],
    words: str,
) -> None:
    state = dict(official)
    change(state)
    torch.save(state, workplace / "model.pth")
    with pytest.raises(UserError, match=words):
        bring(monkeypatch, Path("model.pth"))
    assert not (workplace / "artifacts").exists()
    assert not (workplace / "mlflow.db").exists()


class Trap:
    """Unpickled, it would leave a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


def test_objects_in_a_checkpoint_are_never_made(workplace: Path) -> None:
    torch.save({"prototype_token": torch.ones(2), "extra": Trap()}, workplace / "a.pth")
    (workplace / "b.pth").write_bytes(pickle.dumps(Trap()))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match=f"{name} (holds more than tensors|cannot be read)"):
            read_tensors(Path(name))
    assert not (workplace / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist: give the path"), (b"", "cannot be read"), (b"not a checkpoint", "")],
)
def test_what_is_no_checkpoint_is_one_sentence(workplace: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (workplace / "model.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"^model\.pth .*{words}"):
        read_tensors(Path("model.pth"))


def test_a_list_or_a_nested_table_is_no_state_dict(workplace: Path) -> None:
    torch.save([torch.ones(2)], workplace / "model.pth")
    with pytest.raises(UserError, match=r"model\.pth is no plain state dict of tensors"):
        read_tensors(Path("model.pth"))
    torch.save({"model": {"a": torch.ones(2)}}, workplace / "model.pth")
    with pytest.raises(UserError, match=r"model\.pth is no plain state dict of tensors"):
        read_tensors(Path("model.pth"))
