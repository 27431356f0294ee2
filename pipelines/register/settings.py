"""The section `register` of params.yaml."""

from dataclasses import dataclass

from inpformer.config import require


@dataclass(frozen=True)
class RegisterSettings:
    """`model_name` is the registered model's."""

    model_name: str = "inpformer"

    def __post_init__(self) -> None:
        allowed = bool(self.model_name) and not set(self.model_name) & set("/:'\"")
        require(allowed, "model_name", self.model_name, "a name without slash, colon and quotation marks")
