"""What versions of this project before the record left in the registry."""

import json

from pipelines.platform.aliases import CHAMPION, PREVIOUS
from pipelines.platform.registry import aliases, note, set_alias, set_note

# Kept beside the model while aliases moved.
UNDERWAY = "inpformer.promotion"


def settle_note(model_name: str) -> None:
    """Brings a promotion that was cut off to its end where the champion had moved, and undoes it where it had not."""
    if not (text := note(model_name, UNDERWAY)):
        return
    held, begun = aliases(model_name), json.loads(text)
    previous = begun["from"] if held.get(CHAMPION) == begun["to"] else begun["previous"]
    if previous not in (held.get(PREVIOUS), held.get(CHAMPION)):
        set_alias(model_name, PREVIOUS, previous)
    set_note(model_name, UNDERWAY, "")
