"""Several modules' tensors in one file: each module's names get a prefix."""

from collections.abc import Mapping

from torch import Tensor, nn

from inpformer.errors import UserError


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, their names begun with `prefix`; `part_of` is its counterpart."""
    return {f"{prefix}{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads a state that must hold just the module's tensors. Raises UserError naming `source` and the first that
    is missing, unknown or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(wanted.keys() | held.keys()):
        if wanted.get(name) != held.get(name):
            raise UserError(
                f"{source}: {name} is {held.get(name, 'missing')}, but should be {wanted.get(name, 'absent')}: "
                "the file does not belong to this model."
            )
    module.load_state_dict(state)
