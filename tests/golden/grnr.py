"""GRNR against its authors' code: the chosen features, the scores on each level's grid, and the maps.

The reference adds noise to the neighbours (it is in the file), replaces the cells at a grid's border by its smallest
score and cuts the border off its maps. We do neither, so both are done here. Scores of the outermost ring are left out:
there the reference's neighbours are each other's mirror images, ours are others.
"""

import json
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from inpformer.methods.grnr.model import upsampled
from inpformer.methods.grnr.residual import common, pooled, unexplained
from inpformer.nn.maps import smoothed
from tests.golden.row import EVALUATION, Row, row

CENTRE = 4  # of the nine of a 3 × 3 neighbourhood


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    config, border, crop = json.loads(meta["config"]), json.loads(meta["border"]), int(meta["crop"])
    size, inner = int(config["image_size"]), slice(1, -1)
    found, product = [], torch.ones(())
    for level, cells in border.items():

        def add(name: str, ours: Tensor, theirs: Tensor, allowed: float = EVALUATION, level: str = level) -> None:
            found.append(row(f"{level}/{name}", {name: ours}, {name: theirs}, allowed))

        tokens = pooled(golden[f"{level}/features"][0].flatten(1).T)
        chosen = common(tokens, int(config["n_global"]))
        add("global_index", chosen.float(), golden[f"{level}/global_index"].float(), 0.0)
        grid = _scores(tokens, chosen, golden[f"{level}/neighbour_noise"], float(config["lam"]))
        add("score_grid", grid[inner, inner], golden[f"{level}/score_grid"][inner, inner])
        large = upsampled(_without_border(grid, cells)[None], size)
        add("upsampled", large[0], golden[f"{level}/upsampled"])
        smooth = smoothed(large, float(meta["gauss_sigma"]))[0, crop : size - crop, crop : size - crop]
        add("map", smooth, golden[f"{level}/map"])
        product = product * smooth
    return [*found, row("anomaly_map", {"": product}, {"": golden["anomaly_map"]}, EVALUATION)]


def _scores(tokens: Tensor, chosen: Tensor, noise: Tensor, weight: float) -> Tensor:
    """On the grid, with the neighbours that the reference has: mirrored at the edge, noise on each, no ridge."""
    side = round(len(tokens) ** 0.5)
    mirrored = F.pad(tokens.T.unflatten(1, (side, side))[None], (1, 1, 1, 1), mode="reflect")
    nine = F.unfold(mirrored, 3)[0].T.unflatten(1, (-1, 9)).double() + noise.double()
    neighbours = torch.cat([nine[..., :CENTRE], nine[..., CENTRE + 1 :]], dim=2)  # [N, C, 8]
    exact = tokens.double()
    cross, gram = torch.einsum("nc,nck->nk", exact, neighbours), neighbours.mT @ neighbours
    pull = torch.einsum("c,nck->nk", exact[chosen].sum(dim=0), neighbours)
    scores = unexplained(exact.square().sum(dim=1), cross, gram, pull, len(chosen), weight, ridge=0.0)
    return scores.float().view(side, side)


def _without_border(grid: Tensor, cells: int) -> Tensor:
    kept = grid[cells:-cells, cells:-cells]
    return F.pad(kept, (cells,) * 4, value=float(kept.min()))
