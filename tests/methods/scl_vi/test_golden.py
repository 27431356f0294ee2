"""Our SCL-VI against the numbers that the reference produced, and that the comparison can fail."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpformer.methods.scl_vi.affinity import affinity, spread_out
from tests.golden.check import compare
from tests.golden.scl_vi import build, our_name

GOLDEN = Path(__file__).with_name("golden.safetensors")
EVALUATED = ["eval/embedding64", "eval/embedding32", "eval/logits", "train/position_loss", "train/svdd_loss"]
GRADIENTS = ["grad/conv2.weight", "grad/enc.conv.0.weight", "gradnorm"]
SCORED = ["affinity/score", "affinity/exact", "affinity/map", "knn/distances", "knn/score"]
NAMES = [*EVALUATED, *GRADIENTS, *SCORED]


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden file of our own making, with every size different from the reference's file."""
    with safe_open(GOLDEN, framework="pt") as f:
        meta = f.metadata()
    shapes = json.loads(meta["encoder_shapes"])
    widths = {96: 24, 256: 64, 384: 96, 128: 32, 64: 16}
    small = {n: [widths[size] if size > 12 else size for size in shape] for n, shape in shapes.items()}
    meta |= {"D": "16", "k": "3", "encoder_shapes": json.dumps(small)}
    network = build(meta)
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, 3, 64, 64, generator=generator)
    one, other = network.embed_large(first.double()), network.embed_large(second.double())
    logits, labels = network.relation_large(one, other), torch.tensor([3, 0, 11])
    losses = F.cross_entropy(logits, labels), torch.linalg.vector_norm(one - other, dim=1).mean()
    torch.stack(losses).sum().backward()
    gradients = {n: torch.zeros(1) if v.grad is None else v.grad for n, v in network.named_parameters()}
    made: dict[str, Tensor] = {"patches64_a": first, "patches64_b": second, "labels": labels, "eval/logits": logits}
    made |= {"eval/embedding64": one, "eval/embedding32": network.small(first[..., :32, :32].double())}
    made |= {"train/position_loss": losses[0][None], "train/svdd_loss": losses[1][None]}
    for prefix, key in (("enc", "encoder_keys"), ("cls", "classifier_keys")):
        for name in json.loads(meta[key]):
            gradient = gradients[our_name(f"{prefix}.{name}")]
            made[f"gradnorm/{prefix}.{name}"] = gradient.norm()[None]
            made |= {f"grad/{name}": gradient} if name in ("conv2.weight", "enc.conv.0.weight") else {}
    distances = torch.rand(2, 5, 5, 3, generator=generator).sort(dim=3).values
    distances[0, 2, 3, 0] = 0
    scores = affinity(distances)
    scores[0, 2, 3] = 0.7
    made |= {"affinity/distances": distances, "affinity/score": scores}
    made["affinity/map_80_K48_S8"] = spread_out(scores[:1], 48, 8, 80)
    query, bank = torch.rand(2, 3, 3, 7, generator=generator), torch.rand(2, 4, 4, 7, generator=generator)
    near = torch.cdist(query.flatten(0, 2), bank.flatten(0, 2)).topk(3, largest=False).values.view(2, 3, 3, 3)
    made |= {"knn/query": query, "knn/bank": bank, "knn/distances": near, "knn/score": affinity(near)}
    file = tmp_path_factory.mktemp("golden") / "other.safetensors"
    stored = {name: one.detach().contiguous() for name, one in made.items()}
    save_file({name: one.float() if one.is_floating_point() else one for name, one in stored.items()}, file, meta)
    return file


def test_we_are_the_reference() -> None:
    rows = compare(GOLDEN)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []
    assert {row.name: row.allowed for row in rows if row.allowed != 1e-5} == {
        "eval/embedding32": 5e-5,
        **dict.fromkeys(GRADIENTS, 1e-4),
        "affinity/exact": 0,
    }
    notes = {row.name: row.note for row in rows if row.note}
    assert set(notes) == {"affinity/score", "affinity/exact", "affinity/map"}
    assert all("[0, 0, 0], [0, 1, 1]" in note for note in notes.values())


def test_sizes_and_settings_are_read_from_the_file(other_sizes: Path) -> None:
    rows = compare(other_sizes)
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if not row.held] == []
    assert "[0, 2, 3]" in rows[NAMES.index("affinity/exact")].note


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("eval/embedding32", {"eval/embedding32"}),
        ("gradnorm/cls.fc3.weight", {"gradnorm"}),
        ("affinity/score", {"affinity/score", "affinity/map"}),
        ("knn/bank", {"knn/distances", "knn/score"}),
        ("patches64_b", {"eval/logits", "train/svdd_loss"}),
    ],
)
def test_one_changed_tensor_is_noticed(other_sizes: Path, key: str, wrong: set[str], tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = load_file(other_sizes)
    tensors[key] = tensors[key] * 1.05 + 5e-2
    with safe_open(other_sizes, framework="pt") as f:
        save_file(tensors, tmp_path / "changed.safetensors", f.metadata())
    found = {row.name for row in compare(tmp_path / "changed.safetensors") if not row.held}
    assert found >= wrong if key.startswith("patches") else found == wrong
