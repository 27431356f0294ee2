"""Our TFA-Net and ST-MAE against the numbers that the reference produced, and that the comparison can fail."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpformer.methods.st_mae.network import StMaeNetwork
from inpformer.methods.tfa_net.network import TfaNetwork
from inpformer.nn.mae import MaeShape
from tests.golden import st_mae, tfa_net
from tests.golden.check import compare
from tests.golden.mae import DECODER_SIZES, NAMES, SIZES, evaluated, trained
from tests.golden.steps import ours, theirs

GOLDEN = {name: Path(__file__).parents[1] / name / "golden.safetensors" for name in ("tfa_net", "st_mae")}
LATENTS = {"tfa_net": (), "st_mae": ("latent_first", "latent_second")}
EVALUATED = ("reconstruction", "loss", "anomaly_map", "image_score")
THEIRS = (
    (r"^encoder\.out", "decoder_embed"),
    (r"^decoder\.out", "decoder_pred"),
    (r"^decoder\.positions", "decoder_pos_embed"),
    (r"^decoder\.", "decoder_"),
    (r"^encoder\.embed", "patch_embed.proj"),
    (r"^encoder\.class_token", "cls_token"),
    (r"^encoder\.positions", "pos_embed"),
    (r"^encoder\.", ""),
)
OTHER = MaeShape(12, 5, 2, 24, 1, 3, 16, 2, 4)
every = pytest.mark.parametrize("name", GOLDEN)


def row_names(name: str) -> list[str]:
    return ["positions", *(f"eval/{one}" for one in (*LATENTS[name], *EVALUATED)), "train/loss", "grad0"]


def made_file(name: str, file: Path) -> None:
    """A golden file of our own making, with every size different from the reference's file."""
    torch.manual_seed(0)
    made = {"features": torch.randn(3, 5, 12, 12), "reference_features": torch.randn(1, 5, 12, 12)}
    made["shuffle"] = torch.rand(3, 36).argsort(dim=1)
    network = TfaNetwork(OTHER) if name == "tfa_net" else StMaeNetwork(OTHER)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    state |= {f"{part}.positions": positions(network, part) for part in ("encoder", "decoder")}
    meta = {"method": {"tfa_net": "TFA-Net", "st_mae": "ST-MAE"}[name], "steps": "3", "lr": "0.003"}
    meta |= {"betas": "[0.8, 0.9]", "weight_decay": "0.1"}
    if isinstance(network, TfaNetwork):
        run = partial(tfa_net.run, network, made)
    else:
        made |= st_mae.latents(network, made)
        run = partial(network, made["features"], made["shuffle"])
    made |= evaluated(network, run)
    steps, first = trained(network, run, meta)
    made |= steps | theirs(state, "model/", THEIRS) | theirs(first, "grad0/", THEIRS)
    meta["config"] = json.dumps(dict(zip((*SIZES, *DECODER_SIZES), vars(OTHER).values(), strict=True)))
    save_file({key: value.contiguous() for key, value in made.items()}, file, meta)


def positions(network: TfaNetwork | StMaeNetwork, part: str) -> Tensor:
    """As the reference has them: the class token's first."""
    own = network.get_submodule(part).get_buffer("positions")
    return torch.cat([torch.zeros_like(own[:1]), own])[None]


@every
def test_we_are_the_reference(name: str) -> None:
    rows = compare(GOLDEN[name])
    assert [row.name for row in rows] == row_names(name)
    assert [row for row in rows if not row.held] == []
    assert [row.allowed for row in rows] == [1e-5] * (len(rows) - 1) + [1e-4]


@every
def test_sizes_are_read_from_the_file(name: str, tmp_path: Path) -> None:
    made_file(name, tmp_path / "other.safetensors")
    rows = compare(tmp_path / "other.safetensors")
    assert [row.name for row in rows] == row_names(name)
    assert [row for row in rows if not row.held] == []


@every
def test_every_tensor_of_the_file_has_a_name_of_ours(name: str) -> None:
    golden = load_file(GOLDEN[name])
    again = theirs(ours(golden, "model/", NAMES), "model/", THEIRS)
    assert again.keys() == {key for key in golden if key.startswith("model/")}


@pytest.mark.parametrize(
    ("name", "key", "wrong"),
    [
        ("tfa_net", "model/decoder_pos_embed", {"positions"}),
        ("tfa_net", "reference_features", {"eval/reconstruction", "eval/loss", "train/loss", "grad0"}),
        ("tfa_net", "eval/image_score", {"eval/image_score"}),
        ("st_mae", "eval/latent_second", {"eval/latent_second"}),
        ("st_mae", "grad0/decoder_norm.bias", {"grad0"}),
        ("st_mae", "model/decoder_norm.bias", {"eval/reconstruction", "eval/loss", "train/loss", "grad0"}),
    ],
)
def test_one_changed_tensor_is_noticed(name: str, key: str, wrong: set[str], tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN[name])
    tensors[key] = tensors[key] * 1.05 + 5e-2
    with safe_open(GOLDEN[name], framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert found >= wrong if len(wrong) > 1 else found == wrong


def test_an_order_that_another_image_has_is_noticed(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN["st_mae"])
    tensors["shuffle"] = tensors["shuffle"].flip(0)
    with safe_open(GOLDEN["st_mae"], framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    held = {row.name for row in compare(tmp_path / "changed.safetensors") if row.held}
    assert held == {"positions"}
