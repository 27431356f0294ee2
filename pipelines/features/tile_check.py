"""Whether every picture can be cut into tiles: one that cannot is named before any work is done."""

from collections.abc import Iterator

from inpformer.errors import UserError
from inpformer.images.layouts.sample import Problem, refuse_all
from inpformer.images.tiling import Tiling
from pipelines.manifest.table import Manifest


def check_tiles(manifest: Manifest, tiling: Tiling | None) -> None:
    """Raises UserError that lists all the pictures, of every split, that take too many tiles."""
    if tiling is not None:
        refuse_all(_refused(manifest, tiling))


def _refused(manifest: Manifest, tiling: Tiling) -> Iterator[Problem]:
    for row in manifest.rows:
        try:
            tiling.windows((row.width, row.height))
        except UserError as error:
            yield Problem.at(row.path, str(error))
