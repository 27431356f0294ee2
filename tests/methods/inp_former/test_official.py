"""Reading the authors' naming; that the numbers come out the same is for test_golden.py to show."""

import pytest
import torch

from inpformer.errors import UserError
from inpformer.methods.inp_former.official import encoder_state, trained_key, trained_state


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("prototype_token", "prototype_token"),
        ("aggregation.0.attn.kv.bias", "extractor.attn.kv.bias"),
        ("bottleneck.0.fc1.weight", "bottleneck.fc1.weight"),
        ("decoder.7.attn.learn_scale", "decoder.7.attn.learn_scale"),
    ],
)
def test_their_names_and_ours(theirs: str, ours: str) -> None:
    assert trained_key(theirs) == ours


def test_a_key_of_neither_part_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^head\.weight is no key of an INP-Former checkpoint: check that the file is"):
        trained_state({"encoder.norm.weight": torch.ones(2), "head.weight": torch.ones(2)})


def test_the_class_position_moves_into_the_class_token() -> None:
    positions = torch.arange(10.0).view(1, 5, 2)
    state = encoder_state(
        {
            "encoder.cls_token": torch.full((1, 1, 2), 100.0),
            "encoder.register_tokens": torch.full((1, 4, 2), 7.0),
            "encoder.mask_token": torch.zeros(1, 2),
            "encoder.pos_embed": positions,
            "prototype_token": torch.zeros(6, 2),
        }
    )
    assert state.keys() == {"cls_token", "reg_token", "pos_embed"}
    assert state["cls_token"].flatten().tolist() == [100.0, 101.0]
    assert torch.equal(state["pos_embed"], positions[:, 1:])
