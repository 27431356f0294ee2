"""What TFA-Net's file and ST-MAE's have in common: a masked autoencoder, and the names that the reference gives it."""

import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from inpformer.methods.base import TOTAL, Terms
from inpformer.methods.patched.model import patch_terms
from inpformer.methods.st_mae.network import StMaeNetwork
from inpformer.methods.tfa_net.network import TfaNetwork
from inpformer.nn.mae import MaeShape
from inpformer.nn.maps import product_map, spread
from inpformer.nn.patches import cells
from tests.golden.row import EVALUATION, TRAINING, Row, row
from tests.golden.steps import adamw_steps, ours

NAMES = (
    (r"^decoder_embed", "encoder.out"),
    (r"^decoder_pred", "decoder.out"),
    (r"^decoder_pos_embed", "decoder.positions"),
    (r"^decoder_", "decoder."),
    (r"^patch_embed\.proj", "encoder.embed"),
    (r"^cls_token", "encoder.class_token"),
    (r"^pos_embed", "encoder.positions"),
    (r"^(blocks|norm)", r"encoder.\1"),
)
POSITIONS = ("encoder.positions", "decoder.positions")
SIZES = ("img_size", "in_chans", "patch_size", "embed_dim", "depth", "num_heads")
DECODER_SIZES = ("decoder_embed_dim", "decoder_depth", "decoder_num_heads")
Network = StMaeNetwork | TfaNetwork
Run = Callable[[], tuple[Tensor, Tensor]]  # patches and what is made of them


def mae_shape(meta: Mapping[str, str]) -> MaeShape:
    """The sizes in the file."""
    config = json.loads(meta["config"])
    return MaeShape(*(config[name] for name in (*SIZES, *DECODER_SIZES)))


def load(network: Network, golden: Mapping[str, Tensor]) -> Row:
    """Gives the network the file's weights; compares the positions, of which the file has the class token's too."""
    state = ours(golden, "model/", NAMES)
    theirs = {name: state.pop(name)[0, 1:] for name in POSITIONS}
    network.load_state_dict(state)
    own = dict(zip(POSITIONS, (network.encoder.positions, network.decoder.positions), strict=True))
    return row("positions", own, theirs, EVALUATION)


@torch.no_grad()
def evaluated(network: Network, run: Run) -> dict[str, Tensor]:
    """What `run` gives with a trained network, as the file calls it."""
    target, made = run()
    rebuilt = cells(made, network.shape.patch)
    maps = product_map(cells(target, network.shape.patch), rebuilt)
    return {
        "eval/reconstruction": rebuilt.permute(0, 3, 1, 2),
        "eval/loss": patch_terms(target, made)[TOTAL][None],
        "eval/anomaly_map": maps[0],
        "eval/image_score": spread(maps[:1]),
    }


def trained(network: Network, run: Run, meta: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The loss of each step of the file, and the gradients of the first one."""

    def loss(number: int) -> Terms:
        return patch_terms(*run())

    terms, first = adamw_steps(network, meta, loss)
    return {"train/loss": terms[TOTAL]}, first


def compared(found: Mapping[str, Tensor], first: Mapping[str, Tensor], golden: Mapping[str, Tensor]) -> list[Row]:
    """A row for each of `found`, and one for the gradients of the first step."""
    return [
        *(row(key, {key: value}, {key: golden[key]}, EVALUATION) for key, value in found.items()),
        row("grad0", first, ours(golden, "grad0/", NAMES), TRAINING),
    ]
