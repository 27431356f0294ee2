"""Which test images two versions are weighed on: those that the newer one was registered with."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from inpformer.errors import UserError
from pipelines.gate.linked import Linked, read_linked
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform.registry import Version, download_evidence, find_version, has_version
from pipelines.register.evidence import LINKED_FILE, MANIFEST_FILE

RECALIBRATED_TAG = "recalibrated.from"


class NoImagesError(UserError):
    """No version keeps a list of its images."""


@dataclass(frozen=True)
class SharedImages:
    """The manifest that a version keeps, and which images show one part; `version` is the one that keeps it. `dropped`
    are the test images of the champion that are not among them.
    """

    manifest: Manifest
    linked: Linked
    version: str
    dropped: Collection[str] = ()


def images_of(model_name: str, challenger: Version, champion: Version | None, folder: Path) -> SharedImages:
    """Those of the newer of the two, as tests grow; of a recalibrated version those of the one that it came from in the
    end; of one that keeps none, as it was imported, the other's. Files are fetched into `folder`.

    Raises NoImagesError if none of these versions keeps a manifest.
    """
    both = [challenger, *([champion] if champion is not None else [])]
    numbers = []
    for version in sorted(both, key=lambda one: int(one.number), reverse=True):
        numbers += _line(model_name, version)
    for number in dict.fromkeys(numbers):
        kept = download_evidence(model_name, number, folder / number, MANIFEST_FILE)
        if kept is not None:
            links = download_evidence(model_name, number, folder / number, LINKED_FILE)
            manifest = read_manifest(kept)
            dropped = _dropped(model_name, manifest, champion, folder) if champion is not None else ()
            return SharedImages(manifest, Linked() if links is None else read_linked(links), number, dropped)
    raise NoImagesError(
        f"{model_name} version {challenger.number} keeps no list of its test images, as it was imported, "
        "recalibrated or registered by an older program, so that nothing can be weighed: train and register one with "
        "`dvc repro`, or promote it with --force."
    )


def _line(model_name: str, version: Version) -> list[str]:
    """The version, and those that it was recalibrated from: a category at a time makes several."""
    numbers = [version.number]
    while (origin := version.tags.get(RECALIBRATED_TAG)) and has_version(model_name, origin):
        version = find_version(model_name, origin)
        if version.number in numbers:  # tags can be changed
            break
        numbers.append(version.number)
    return numbers


def _dropped(model_name: str, manifest: Manifest, champion: Version, folder: Path) -> Collection[str]:
    """By the content of the files."""
    before = download_evidence(model_name, champion.number, folder / champion.number, MANIFEST_FILE)
    if before is None:
        return ()
    return {row.sha256 for row in read_manifest(before).split("test")} - {row.sha256 for row in manifest.split("test")}
