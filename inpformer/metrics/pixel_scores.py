"""The pixel scores of anomaly maps, split into normal and anomalous ones, in memory or waiting on disk."""

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inpformer.errors import UserError

EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class PixelScores:
    """normal: float32 [n], scores of normal pixels; anomalous: float32 [a], scores of anomalous ones.

    shares: float64 [a], what each anomalous pixel adds to the overlap of its region, which is 1 if all of it is found.
    """

    normal: NDArray[np.float32]
    anomalous: NDArray[np.float32]
    shares: NDArray[np.float64]

    def __len__(self) -> int:
        return self.normal.size + self.anomalous.size

    def split(self, value: np.float32) -> tuple["PixelScores", "PixelScores"]:
        """The part below `value` and the part from it on. Needs ascending scores; copies nothing."""
        n, a = self.normal.searchsorted(value), self.anomalous.searchsorted(value)
        below = PixelScores(self.normal[:n], self.anomalous[:a], self.shares[:a])
        return below, PixelScores(self.normal[n:], self.anomalous[a:], self.shares[a:])


@dataclass(frozen=True)
class Regions:
    """The defects of an image, each a region, connected or not; they may overlap.

    masks: bool [r, H, W]; saturation: float64 [r], above 0: how many pixels of a region are enough.
    """

    masks: NDArray[np.bool_]
    saturation: NDArray[np.float64]


def checked(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    """Refuses what no pixel metric can use.

    Raises UserError if a score is NaN or infinite, ValueError if map and mask are not one and the same [H, W] or not
    float32 and boolean.
    """
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
        raise ValueError(f"map {anomaly_map.shape} and mask {mask.shape} must both be [H, W]")
    if anomaly_map.dtype != np.float32 or mask.dtype != np.bool_:
        raise ValueError(f"the map must be float32 and the mask boolean, not {anomaly_map.dtype} and {mask.dtype}")
    if bad := anomaly_map.size - np.count_nonzero(np.isfinite(anomaly_map)):
        raise UserError(f"{bad} of the {anomaly_map.size} scores of a map are NaN or infinite: check their model.")


def by_class(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[PixelScores, int]:
    """The scores of a map [H, W] by its mask [H, W] (True means anomalous), and the mask's number of regions.

    Regions are 8-connected. Copies, so the map may be written to afterwards. Raises what `checked` raises.
    """
    checked(anomaly_map, mask)
    if not mask.any():
        return PixelScores(anomaly_map.flatten(), np.empty(0, np.float32), np.empty(0)), 0
    labelled, regions = ndimage.label(mask, EIGHT_CONNECTED)
    region = labelled[mask]
    return PixelScores(anomaly_map[~mask], anomaly_map[mask], 1 / np.bincount(region)[region]), regions


def by_region(anomaly_map: NDArray[np.float32], regions: Regions) -> tuple[PixelScores, int]:
    """The scores of a map [H, W] by its regions, and how many of these have a pixel. A pixel of several regions comes
    with each of them; what adds nothing, as more of its region is found than is enough, is left out.

    Copies, as `by_class`. Raises what `checked` raises.
    """
    anywhere = np.asarray(regions.masks.any(axis=0))
    checked(anomaly_map, anywhere)
    found, shares, count = [np.empty(0, np.float32)], [np.empty(0)], 0
    for mask, enough in zip(regions.masks, regions.saturation, strict=True):
        highest = -np.sort(-anomaly_map[mask])[: int(np.ceil(enough))]
        found.append(highest)
        shares.append(np.minimum(enough - np.arange(highest.size), 1) / enough)  # the last may count in part
        count += bool(highest.size)
    return PixelScores(anomaly_map[~anywhere], np.concatenate(found), np.concatenate(shares)), count


def merged(parts: Sequence[PixelScores]) -> PixelScores:
    """All scores of at least one part together, ascending."""
    normal = np.concatenate([p.normal for p in parts])
    normal.sort()
    anomalous = np.concatenate([p.anomalous for p in parts])
    order = np.argsort(anomalous)
    return PixelScores(normal, anomalous[order], np.concatenate([p.shares for p in parts])[order])


class Spill:
    """Arrays of one type, appended to a nameless temporary file and read back as memory-mapped parts.

    The file has no name, so it is gone when it is closed and also when the process is killed.
    """

    def __init__(self, dtype: type[np.generic], folder: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._ends = [0]
        self._mapped: mmap.mmap | None = None
        try:
            # Unbuffered, so that closing has nothing left to write after the disk was full. close() closes it.
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
        except OSError as error:
            raise UserError(f"No temporary file can be made in {folder or 'TMPDIR'} ({error}): name another.") from None

    def append(self, values: NDArray[Any]) -> None:
        """Writes one part [n]. Raises UserError if the disk is full."""
        unwritten = memoryview(values.astype(self._dtype, "C", copy=False).view(np.uint8).data)
        try:
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            raise UserError(
                f"Scores of {values.size} pixels cannot be put aside on disk ({error}): "
                "set TMPDIR to a folder with more room."
            ) from None
        self._ends.append(self._ends[-1] + values.size)

    def parts(self) -> list[NDArray[Any]]:
        """What was appended, in that order, as read-only views of the file: [n] each."""
        if not self._ends[-1]:
            return [np.empty(0, self._dtype) for _ in self._ends[1:]]
        self._mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = np.frombuffer(self._mapped, self._dtype)
        return [whole[start:end] for start, end in zip(self._ends, self._ends[1:], strict=False)]

    def forget(self) -> None:
        """Gives back the memory that what was read of the parts takes: read again, it comes from the file again."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Gives the disk space back."""
        self._mapped = None
        self._file.close()


class PixelSpill:
    """PixelScores that wait on disk: a Spill for each of their three arrays."""

    def __init__(self, folder: Path | None) -> None:
        self._arrays = [Spill(np.float32, folder), Spill(np.float32, folder), Spill(np.float64, folder)]

    def append(self, scores: PixelScores) -> None:
        """Writes one part. Raises UserError if the disk is full."""
        normal, anomalous, shares = self._arrays
        normal.append(scores.normal)
        anomalous.append(scores.anomalous)
        shares.append(scores.shares)

    def parts(self) -> list[PixelScores]:
        """What was appended, in that order, memory-mapped."""
        return [PixelScores(*arrays) for arrays in zip(*(s.parts() for s in self._arrays), strict=True)]

    def forget(self) -> None:
        """As `Spill.forget`."""
        for spill in self._arrays:
            spill.forget()

    def close(self) -> None:
        """Gives the disk space back."""
        for spill in self._arrays:
            spill.close()
