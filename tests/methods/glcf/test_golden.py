"""Our GLCF against the numbers that the reference produced, and that the comparison can fail."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.methods.glcf.losses import fused, losses, raw_maps
from inpformer.methods.glcf.network import GlcfNetwork
from inpformer.nn.maps import spread
from tests.golden.check import compare
from tests.golden.glcf import our_name

GOLDEN = Path(__file__).with_name("golden.safetensors")
KINDS = ("local", "global", "global_estimate")
EVALUATED = ["local_latent", "global_latent", *(f"{kind}{scale}" for kind in KINDS for scale in range(3)), "loss"]
EVALUATED += ["local_map0", "global_map2", "map_mean_std", "local_fused_std", "global_fused_std"]
NAMES = ["positions", *(f"eval/{name}" for name in EVALUATED), "train/losses", "grad0"]
# Ours to the reference's names, with all that does not differ left out.
THEIRS = (
    ("bottleneck.semantic_token", "bottle.auxiliary_token"),
    ("bottleneck.place_token", "bottle.latent_auxiliary_token"),
    ("bottleneck.between.", "bottle.decoder_embed."),
    ("bottleneck.local_blocks.", "bottle.local_decoder_blocks."),
    ("bottleneck.global_blocks.", "bottle.global_decoder_blocks."),
    ("bottleneck.last_norm.", "bottle.decoder_norm."),
    ("bottleneck.out.", "bottle.decoder_pred."),
    ("bottleneck.", "bottle."),
    ("local.", "student_decoder_reg_local."),
    ("expected.", "student_decoder_reg_global."),
    ("whole.", "student_decoder."),
)


def their_name(name: str) -> str:
    ours, theirs = next(pair for pair in THEIRS if name.startswith(pair[0]))
    name = theirs + name.removeprefix(ours)
    name = re.sub(r"embed\.(\d)\.", lambda found: f"patch_embed{int(found[1]) + 1}.proj.", name)
    return re.sub(r"stages\.(\d)\.", lambda found: f"layer{int(found[1]) + 1}.", name)


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden file of our own making, with every size different from the reference's file."""
    torch.manual_seed(0)
    grids, channels = [24, 12, 6, 2], [6, 10, 14, 22]
    sizes = {"embed_dim": 12, "depth": 1, "num_heads": 3, "decoder_depth": 2, "decoder_num_heads": 4}
    levels = [Level(side, width) for side, width in zip(grids, channels, strict=True)]
    network = GlcfNetwork(levels, 12, (1, 2), (3, 4), [1, 2, 1])
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    features = [torch.randn(2, width, side, side) for side, width in zip(grids, channels, strict=True)]
    groups = [one.flatten(2).transpose(1, 2) for one in features]
    state = {k: v.clone() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    made = {f"model/{their_name(name)}": value for name, value in state.items()}
    made |= {f"features{number}": one for number, one in enumerate(features)}
    made["model/bottle.cls_token"] = torch.zeros(1, 1, 12)
    for name in ("pos_embed", "decoder_pos_embed"):
        made[f"model/bottle.{name}"] = torch.cat([torch.zeros(1, 12), network.bottleneck.positions])[None]
    with torch.no_grad():
        found = network.eval()(*groups)
        latents = network.bottleneck(features[1:])
        maps = raw_maps(found, 48)[:1]
    statistics = maps.mean(dim=(0, 3, 4)), maps.std(dim=(0, 3, 4), unbiased=False)
    made |= {"eval/local_latent": latents[0], "eval/global_latent": latents[1]}
    for kind, levels_ in zip(KINDS, (found.local, found.whole, found.expected), strict=True):
        made |= {f"eval/{kind}{number}": one[:1] for number, one in enumerate(levels_)}
    made |= {"eval/loss": torch.stack(losses(found)).sum()[None], "eval/map_mean_std": torch.stack(statistics, dim=-1)}
    made |= {"eval/local_map0": maps[0, 0, 0], "eval/global_map2": maps[0, 1, 2]}
    for number, kind in enumerate(("local", "global")):
        weights = torch.zeros(2, 3)
        weights[number] = torch.tensor([1.0, 3.0, 6.0])
        made[f"eval/{kind}_fused_std"] = spread(fused(maps, *statistics, weights))
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=0.003, betas=(0.8, 0.9), weight_decay=0.1)
    table = []
    for number in range(2):
        terms = torch.stack(losses(network(*groups)))
        optimizer.zero_grad()
        terms.sum().backward()
        if number == 0:
            named = network.named_parameters()
            made |= {f"grad0/{their_name(name)}": one.grad.clone() for name, one in named if one.grad is not None}
        optimizer.step()
        table.append(terms.detach())
    meta = {"method": "GLCF", "bottleneck": json.dumps(sizes), "grids": json.dumps(grids), "steps": "2", "lr": "0.003"}
    meta |= {"channels": json.dumps(channels), "decoder_blocks": "[1, 2, 1]", "betas": "[0.8, 0.9]"}
    file = tmp_path_factory.mktemp("golden") / "other.safetensors"
    made["train/losses"] = torch.stack(table)
    save_file({key: value.contiguous() for key, value in made.items()}, file, meta | {"weight_decay": "0.1"})
    return file


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []
    assert [row.allowed for row in rows] == [1e-5] * (len(NAMES) - 2) + [1e-4] * 2


def test_sizes_and_settings_are_read_from_the_file(other_sizes: Path) -> None:
    rows = compare(other_sizes)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []


def test_every_tensor_of_the_file_has_a_name_of_ours() -> None:
    names = {name.removeprefix("model/") for name in load_file(GOLDEN) if name.startswith("model/")}
    read = {name for name in names if "pos_embed" not in name and "cls_token" not in name}
    assert {their_name(our_name(name)) for name in read} == read


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("model/bottle.pos_embed", {"positions"}),
        ("eval/global_estimate1", {"eval/global_estimate1"}),
        ("eval/map_mean_std", {"eval/map_mean_std"}),
        ("grad0/bottle.blocks.0.norm1.bias", {"grad0"}),
        ("train/losses", {"train/losses"}),
        ("model/student_decoder_reg_global.layer3.1.bn3.bias", {"eval/global_estimate0", "eval/loss", "grad0"}),
        ("model/student_decoder.layer1.0.bn2.running_var", {"eval/global2", "eval/global_map2", "eval/loss"}),
    ],
)
def test_one_changed_tensor_is_noticed(key: str, wrong: set[str], tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN)
    tensors[key] = tensors[key] * 1.05 + 5e-2
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert found > wrong if key.startswith("model/student") else found == wrong
