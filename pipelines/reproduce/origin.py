"""What a version was made of, by its own evidence, and whether that can be found again."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inpformer.errors import UserError
from pipelines.platform.params import PARAMS_FILE
from pipelines.platform.provenance import LOCK_FILE, THREADS
from pipelines.platform.registry import download_evidence
from pipelines.register.evidence import PROVENANCE_FILE


@dataclass(frozen=True)
class Origin:
    """`commit` and `params` of a version, and `data`, the path of its images, with their `digest` in the manifest and
    what DVC knows of them: md5, size and number of files; empty where it knows nothing. `threads` is what the
    environment said of their number, if anything.
    """

    commit: str
    params: dict[str, Any]
    data: Path
    digest: str
    known: dict[str, Any]
    threads: str | None

    @property
    def outside(self) -> bool:
        """Whether the images lie outside the repository, where DVC does not keep them."""
        return not self.data.resolve().is_relative_to(Path.cwd())


def read_origin(model_name: str, number: str, folder: Path) -> Origin:
    """Fetched into `folder`. Raises UserError if the version does not say what it was made of, or if code was not
    committed.
    """
    name = f"{model_name} version {number}"
    found = download_evidence(model_name, number, folder, PROVENANCE_FILE)
    if found is None:
        raise UserError(
            f"{name} keeps no {PROVENANCE_FILE}: it was recalibrated, imported, or made before versions had one. Give "
            "the version that it was made from."
        )
    made_of = json.loads(found.read_text())
    commit, changed = made_of["git.commit"], made_of["git.uncommitted"]
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        raise UserError(f"{name} was made outside a git repository: nobody knows its code.")
    if code := [file for file in changed or () if file != PARAMS_FILE.as_posix()]:
        raise UserError(
            f"{name} was made with changes that were not committed in {', '.join(code)}: they are not known."
        )
    data = made_of["params"]["manifest"]["data"]
    lock = download_evidence(model_name, number, folder, LOCK_FILE.name)
    threads = made_of.get("threads", {}).get(THREADS)
    return Origin(commit, made_of["params"], Path(data), made_of["data"]["digest"], _known(lock, data), threads)


def _known(lock: Path | None, data: str) -> dict[str, Any]:
    if lock is None:
        return {}
    stages = yaml.safe_load(lock.read_text())["stages"]
    found: dict[str, Any] = next((one for one in stages["manifest"]["deps"] if one["path"] == data), {})
    return {name: found[name] for name in ("md5", "size", "nfiles", "hash") if name in found}
