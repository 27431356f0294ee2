"""Our DADF against the numbers that the reference produced, and that the comparison can fail."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inpformer.encoders.shapes import EncoderShape, Level
from inpformer.methods.dadf.losses import likelihood_map, squared_errors, surprises
from inpformer.methods.dadf.model import Dadf, side_by_side
from inpformer.methods.dadf.settings import DadfSettings, FlowSettings
from tests.golden.check import compare
from tests.golden.dadf import NAMES as OURS
from tests.golden.steps import ours, theirs

GOLDEN = Path(__file__).with_name("golden.safetensors")
SCALES = range(3)
EVALUATED = [f"{name}{scale}" for scale in SCALES for name in ("self", "memory", "z", "logdet")]
EVALUATED += ["flow_loss", "anomaly_map", "image_score"]
TRAINED = ["train/flow_loss", "flow_grad0", "train/loss", "grad0", "after"]
NAMES = ["positions", *(f"eval/{name}" for name in EVALUATED), *TRAINED]


# Ours to the reference's names.
THEIRS = (
    (r"^memory$", "sem_token"),
    (r"^embed\.levels\.0", "patch_embed1.proj"),
    (r"^embed\.levels\.1", "patch_embed2.proj"),
    (r"^embed\.levels\.2", "patch_embed3.proj"),
    (r"^predict\.levels\.0", "decoder_pred1"),
    (r"^predict\.levels\.1", "decoder_pred2"),
    (r"^predict\.levels\.2", "decoder_pred3"),
    (r"^levels\.(\d)\.steps\.", r"nf_flows.\1.module_list."),
    (r"^levels\.(\d)\.norm", r"norms.\1"),
    (r"\.scale$", ".global_scale"),
    (r"\.shift$", ".global_offset"),
)


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: one.grad.clone() for name, one in network.named_parameters() if one.grad is not None}


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden file of our own making, with every size different from the reference's file, an odd number of channels
    among them.
    """
    torch.manual_seed(0)
    sizes = {"img_size": [12, 6, 3], "in_chans": [5, 7, 9], "embed_dim": 8, "depth": 1, "num_heads": 2}
    levels = tuple(Level(*one) for one in zip(sizes["img_size"], sizes["in_chans"], strict=True))  # type: ignore
    model = Dadf(DadfSettings(8, 1, 2, flow=FlowSettings(3)), EncoderShape(levels, None))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    rebuild, flows = model.reconstruction, model.flows
    features = [torch.randn(3, one.channels, one.side, one.side) for one in levels]
    groups = [one.flatten(2).transpose(1, 2) for one in features]
    made = {f"features{number}": one for number, one in enumerate(features)}
    for prefix, network in (("model/", rebuild), ("flow/", flows)):
        made |= {name: one.clone() for name, one in theirs(network.state_dict(), prefix, THEIRS).items()}
    made["model/pos_embed"] = torch.cat([torch.zeros(1, 24), rebuild.positions])[None]
    with torch.no_grad():
        rebuilt = rebuild(*groups)
        inputs = side_by_side(rebuilt)
        latents = flows(*inputs)
    for scale in SCALES:
        made |= {f"eval/self{scale}": rebuilt.sample[scale], f"eval/memory{scale}": rebuilt.memory[scale]}
        made |= {f"eval/z{scale}": latents.values[scale], f"eval/logdet{scale}": latents.log_determinants[scale]}
    made |= {"eval/flow_loss": surprises(latents).sum()[None]}
    made |= {"eval/anomaly_map": likelihood_map(latents, 48)[:, None]}
    made |= {"eval/image_score": made["eval/anomaly_map"].amax(dim=(1, 2, 3))}
    adam = torch.optim.Adam(flows.parameters(), lr=0.002, weight_decay=0.1)
    adamw = torch.optim.AdamW(rebuild.parameters(), lr=0.003, betas=(0.8, 0.9), weight_decay=0.2)
    table: dict[str, list[Tensor]] = {"train/flow_loss": [], "train/loss": []}
    for which, network, optimizer in (("flow_", flows, adam), ("", rebuild, adamw)):
        for number in range(2):
            loss = surprises(flows(*inputs)).sum() if which else torch.stack(squared_errors(rebuild(*groups))).sum()
            optimizer.zero_grad()
            loss.backward()
            if number == 0:
                made |= theirs(gradients(network), f"{which}grad0/", THEIRS)
            optimizer.step()
            table[f"train/{which}loss"].append(loss.detach())
    made |= {name: torch.stack(losses) for name, losses in table.items()}
    made |= theirs(rebuild.state_dict(), "after/", THEIRS)
    meta = {"method": "DADF", "config": json.dumps(sizes), "flow": '{"flow_steps": 3}', "steps": "2", "lr": "0.003"}
    meta |= {"betas": "[0.8, 0.9]", "weight_decay": "0.2", "flow_optimiser": "Adam lr 2e-3, L2 1e-1"}
    file = tmp_path_factory.mktemp("golden") / "other.safetensors"
    save_file({key: value.contiguous() for key, value in made.items()}, file, meta)
    return file


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []
    assert {row.name for row in rows if row.allowed > 1e-5} == {"grad0", "flow_grad0"}
    assert max(row.allowed for row in rows) == 1e-4


def test_sizes_and_settings_are_read_from_the_file(other_sizes: Path) -> None:
    rows = compare(other_sizes)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []


def test_every_tensor_of_the_file_has_a_name_of_ours() -> None:
    for prefix in ("model/", "flow/"):
        names = {name for name in load_file(GOLDEN) if name.startswith(prefix)} - {"model/pos_embed"}
        read = ours({name: torch.empty(0) for name in names}, prefix, OURS)
        assert theirs(read, prefix, THEIRS).keys() == names


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("model/pos_embed", {"positions"}),
        ("eval/memory1", {"eval/memory1"}),
        ("eval/logdet2", {"eval/logdet2"}),
        ("eval/image_score", {"eval/image_score"}),
        ("flow_grad0/norms.0.bias", {"flow_grad0"}),
        ("after/sem_token", {"after"}),
        ("flow/nf_flows.1.module_list.3.global_offset", {"eval/z1", "eval/anomaly_map", "train/flow_loss"}),
    ],
)
def test_one_changed_tensor_is_noticed(key: str, wrong: set[str], tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN)
    tensors[key] = tensors[key] * 1.05 + 5e-2
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert found > wrong if key.startswith("flow/") else found == wrong


def test_another_permutation_is_another_flow(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN)
    name = "flow/nf_flows.0.module_list.2.permutation"
    tensors[name] = tensors[name].roll(1)
    with safe_open(GOLDEN, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert {"eval/z0", "eval/anomaly_map"} <= found
    assert not {"eval/z1", "eval/z2"} & found
