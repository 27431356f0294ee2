"""A regular expression for `manifest.part` that the paths themselves suggest."""

import re
from collections import Counter
from collections.abc import Sequence

NUMBER = re.compile(r"(?P<before>[^\d]*)(?P<number>\d+)(?P<after>[^\da-zA-Z]?)")
AGREE = 0.8  # of the pairs that show one part must have the same number, and so many of all paths must have one
BY_CHANCE = 0.05  # of all pairs of images may have the same number, at most


def suggest_pattern(paths: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str | None:
    """A pattern whose first group is a number in the file's name that most `pairs` share and few other images do; None
    if the names have none. `paths` are all images that may be in the pairs.
    """
    for pattern in _candidates(pairs[0][0]):
        numbers = {path: match[1] for path in paths if (match := re.search(pattern, path))}
        if len(numbers) < AGREE * len(paths):
            continue
        chance = sum(n * n for n in Counter(numbers.values()).values()) / len(numbers) ** 2
        same = sum(a in numbers and numbers[a] == numbers.get(b) for a, b in pairs)
        if same >= AGREE * len(pairs) and chance <= BY_CHANCE:
            return pattern
    return None


def _candidates(path: str) -> list[str]:
    """For each number in the name of the file: itself between the text before it and the sign after it."""
    name = path[path.rfind("/") :] if "/" in path else path
    return [f"{re.escape(m['before'])}(\\d+){re.escape(m['after'])}" for m in NUMBER.finditer(name)]
