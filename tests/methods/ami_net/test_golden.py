"""Our AMI-Net against the numbers that the reference produced, and that the comparison can fail."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpformer.methods.ami_net.network import AmiNetwork, NetworkShape
from tests.golden.ami_net import NAMES, TERMS, evaluated, trained
from tests.golden.check import compare
from tests.golden.steps import ours, theirs

GOLDEN = Path(__file__).with_name("golden.safetensors")
EVALUATED = ("clusters", "token_distance", "token_score", "keep", "reconstruction", "mse_map_256", "cos_map_256")
ROWS = ["positions", *(f"eval/{name}" for name in (*EVALUATED, "anomaly_map", "image_score"))]
ROWS += [*(f"train/{name}" for name in (*TERMS, "reconstruction0")), "grad0", "after"]
THEIRS = (
    (r"^embed", "patch_embed.proj"),
    (r"^cluster_embed", "auxi_embed.proj"),
    (r"^clusters\.blocks", "auxiliary"),
    (r"^clusters\.norm", "norm_auxi"),
    (r"^clusters\.tokens", "cls_token"),
    (r"^out", "inpainting_pred"),
)


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden file of our own making, with every size and setting different from the reference's file."""
    torch.manual_seed(0)
    network = AmiNetwork(NetworkShape(12, 5, 3, 24, 1, 3, 6, 2), deviations=0.1, jitter=7.0)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    made = {"features": torch.randn(3, 5, 12, 12), "train/keep": (torch.rand(3, 3, 16) < 0.5).float()}
    made["train/jitter"] = torch.randn(3, 2, 3, 16, 24)
    meta = {"method": "AMI-Net", "steps": "3", "lr": "0.003", "betas": "[0.8, 0.9]", "weight_decay": "0.1"}
    made |= evaluated(network.eval(), made)
    steps, first = trained(network.train(), meta, made)
    made |= steps | theirs(state, "model/", THEIRS) | theirs(first, "grad0/", THEIRS)
    made |= theirs(network.state_dict(), "after/", THEIRS) | {"model/pos_embed": network.positions[None]}
    config = {"img_size": 12, "in_chans": 5, "patch_size": 3, "embed_dim": 24, "depth": 1, "num_heads": 3}
    meta["config"] = json.dumps(config | {"center_num": 6, "clu_depth": 2, "sigma": 0.1})
    file = tmp_path_factory.mktemp("golden") / "other.safetensors"
    save_file({key: value.contiguous() for key, value in made.items()}, file, meta | {"jitter_scale": "7"})
    return file


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert [row.name for row in rows] == ROWS
    assert [row for row in rows if not row.held] == []
    assert [row.allowed for row in rows] == [1e-5] * (len(ROWS) - 2) + [1e-4, 1e-5]


def test_sizes_and_settings_are_read_from_the_file(other_sizes: Path) -> None:
    rows = compare(other_sizes)
    assert [row.name for row in rows] == ROWS
    assert [row for row in rows if not row.held] == []


def test_every_tensor_of_the_file_has_a_name_of_ours() -> None:
    golden = load_file(GOLDEN)
    again = theirs(ours(golden, "model/", NAMES), "", THEIRS)
    assert {f"model/{name}" for name in again} - {"model/positions"} == {
        name for name in golden if name.startswith("model/") and name != "model/pos_embed"
    }


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("model/pos_embed", {"positions"}),
        ("eval/cos_map_256", {"eval/cos_map_256"}),
        ("train/centre", {"train/centre"}),
        ("grad0/auxiliary.0.norm1.bias", {"grad0"}),
        ("after/mask_token", {"after"}),
        ("train/jitter", {"train/loss", "grad0", "after"}),
        ("model/norm_auxi.bias", {"eval/clusters", "eval/token_distance", "train/token", "grad0"}),
    ],
)
def test_one_changed_tensor_is_noticed(key: str, wrong: set[str], tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN)
    tensors[key] = tensors[key] * 1.05 + 5e-2
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert found > wrong if key.startswith(("model/norm", "train/jitter")) else found == wrong
