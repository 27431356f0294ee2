"""Our INP-Former against the numbers that the reference produced, and that the comparison can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from inpformer.methods.inp_former.losses import losses
from inpformer.methods.inp_former.model import reconstruction_map, zero_shot_map
from inpformer.methods.inp_former.network import INPFormer, NetworkShape
from inpformer.methods.inp_former.settings import LossSettings
from inpformer.nn.maps import image_scores
from inpformer.nn.optim import StableAdamW, learning_rate
from tests.golden.check import compare, main
from tests.golden.inp_former import build, groups

GOLDEN = Path(__file__).with_name("golden.safetensors")
EVAL = {
    *("encoder_group0", "encoder_group1", "fused", "prototypes", "decoder_group0", "decoder_group1"),
    *("coherence_loss", "anomaly_map", "image_score", "zero_shot_map", "zero_shot_score"),
}
TRAIN = {"loss", "soft_mining", "coherence", "lr", "grad_norm"}
NAMES = {f"eval/{n}" for n in EVAL} | {f"train/{n}" for n in TRAIN} | {"grad0", "after"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """The exit code of the command, in this process: importing torch anew takes seconds."""
    monkeypatch.setattr(sys, "argv", ["golden.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def official_names(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    places = {"extractor": "aggregation.0", "bottleneck": "bottleneck.0"}
    return {".".join([places.get(first := k.split(".")[0], first), *k.split(".")[1:]]): v for k, v in trained.items()}


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden file of our own making, with every size, tap and setting different from the reference's file."""
    torch.manual_seed(0)
    meta = {"depth": "12", "embed_dim": "48", "num_heads": "3", "num_prototypes": "4", "patch_size": "14"}
    meta |= {"image_size": "84", "pretrain_image_size": "112", "register_tokens": "2", "target_layers": "1,2,4,5,6,7"}
    meta |= {
        "steps": "3",
        "lr": "0.002",
        "final_lr": "0.0003",
        "schedule_total": "9",
        "schedule_warmup": "2",
        "clip": "0.1",
    }
    meta |= {"eps": "1e-9", "weight_decay": "0.01", "coherence_weight": "0.5", "mining_power": "2"}
    vit = VisionTransformer(
        *(112, 14), embed_dim=48, num_heads=3, num_classes=0, init_values=1.0, reg_tokens=2, no_embed_class=True
    )
    model = INPFormer(NetworkShape(48, 3, groups=2, num_prototypes=4))
    state = {f"encoder.{k}": v.clone() for k, v in vit.state_dict().items()} | official_names(model.state_dict())
    state["encoder.register_tokens"] = state.pop("encoder.reg_token")
    state["encoder.pos_embed"] = torch.cat([torch.randn(1, 1, 48), state["encoder.pos_embed"]], dim=1)
    images = torch.randn(3, 2, 3, 84, 84)
    outputs = {f"model/{k}": v.clone() for k, v in state.items()} | {"images": images}
    encoder, model = build(meta, state)

    def grid(tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(2, 48, 6, 6)

    with torch.no_grad():
        out = model(groups(encoder, images[0]))
        maps, zero_shot = reconstruction_map(out, 84), zero_shot_map(out.fused, out.prototypes, 84)
    for group in (0, 1):
        outputs[f"eval/encoder_group{group}"] = grid(out.target[:, group])
        outputs[f"eval/decoder_group{group}"] = grid(out.decoded[:, group])
    outputs |= {"eval/fused": out.fused, "eval/prototypes": out.prototypes, "eval/anomaly_map": maps[:, None]}
    outputs |= {"eval/zero_shot_map": zero_shot[:, None], "eval/image_score": image_scores(maps)}
    outputs |= {"eval/zero_shot_score": image_scores(zero_shot)}

    optimizer = StableAdamW(model.parameters(), eps=1e-9, weight_decay=0.01)
    table = []
    for number in range(3):
        loss = losses(model(groups(encoder, images[number])), LossSettings(0.5, 2.0))
        optimizer.zero_grad()
        loss.total.backward()
        if number == 0:
            outputs["eval/coherence_loss"] = loss.coherence.detach()[None]
            gradients = official_names({k: v.grad.clone() for k, v in model.named_parameters()})  # type: ignore[union-attr]
            outputs |= {f"grad0/{k}": v for k, v in gradients.items()}
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        rate = learning_rate(number, 9, 0.002, 0.0003, 2)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        table.append([loss.total.item(), loss.soft_mining.item(), loss.coherence.item(), rate, norm.item()])
    columns = torch.tensor(table, dtype=torch.float64).T
    names = ("loss", "soft_mining", "coherence", "lr", "grad_norm")
    outputs |= {f"train/{n}": column.clone() for n, column in zip(names, columns, strict=True)}
    outputs |= {f"after/{k}": v for k, v in official_names(model.state_dict()).items()}
    file = tmp_path_factory.mktemp("golden") / "other.safetensors"
    save_file({k: v.contiguous() for k, v in outputs.items()}, file, meta)
    return file


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert {row.name for row in rows} == NAMES
    assert len(rows) == len(NAMES)
    assert [row for row in rows if not row.error <= row.allowed] == []
    assert {row.allowed for row in rows} == {1e-5, 1e-4}


def test_sizes_and_settings_are_read_from_the_file(other_sizes: Path) -> None:
    rows = compare(other_sizes)
    assert {row.name for row in rows} == NAMES
    assert [row for row in rows if not row.error <= row.allowed / 10] == []


def test_the_command_prints_every_row_and_exits_0() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", str(GOLDEN)], cwd=GOLDEN.parents[3], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines() if line.endswith("  ok")} == NAMES


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("model/decoder.3.attn.kv.weight", {"eval/decoder_group0", "eval/anomaly_map", "train/loss", "grad0", "after"}),
        ("model/encoder.blocks.4.mlp.fc1.weight", {"eval/encoder_group0", "eval/zero_shot_map", "grad0"}),
        ("eval/prototypes", {"eval/prototypes"}),
        ("after/decoder.7.mlp.fc2.bias", {"after"}),
    ],
)
def test_one_changed_tensor_is_noticed(
    key: str, rows: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(GOLDEN)
    tensors[key] = tensors[key] * 1.01 + 1e-3
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    assert run(monkeypatch, tmp_path / "changed.safetensors") == 1
    wrong = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("TOO LARGE")}
    assert wrong == rows if key.startswith(("eval", "after")) else wrong > rows


def test_a_missing_file_and_a_missing_argument_end_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(run(monkeypatch, "nowhere.safetensors")).startswith("error: nowhere.safetensors is not a file: ")
    assert str(run(monkeypatch)).startswith("usage: python -m tests.golden FILE")


def test_a_nan_does_not_pass(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN)
    tensors["after/decoder.3.norm1.weight"][0] = float("nan")
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "nan.safetensors", metadata=f.metadata())
    rows = {row.name: row for row in compare(tmp_path / "nan.safetensors")}
    assert not rows["after"].error <= rows["after"].allowed
