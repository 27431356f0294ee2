"""Whether two pictures show one place: do their frequencies agree in phase once one picture is shifted over the other?

Phase correlation (Kuglin and Hines, "The phase correlation image alignment method", 1975). Light, contrast and gamma
change how strong a frequency is, and hardly its phase. Stripes, teeth and outlines, which neighbouring places of one
object share, are few of the frequencies, and each counts the same: only a surface that is the same agrees in most.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

SIDE = 64  # pixels of the pictures that are compared
# Cycles a side: lower ones are light and outlines, higher ones are noise, or moved too far by a slight crop.
LOWEST, HIGHEST = 4, 20
# The share of the frequencies that agree, from which on two pictures show one place: benchmarks/gate.md.
AGREE = 0.35
REACH = SIDE // 5  # pixels: the farthest shift
PAIRS = 256  # compared at a time

_ROWS, _COLUMNS = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.fft.rfftfreq(SIDE, 1 / SIDE)
_RADIUS = np.hypot(_ROWS, _COLUMNS)
# Each frequency once: of the first column, which has both signs, half.
_BAND = (_RADIUS >= LOWEST) & (_RADIUS <= HIGHEST) & ((_COLUMNS > 0) | (_ROWS > 0))
_WEIGHTS = np.broadcast_to(np.where(_COLUMNS > 0, 1, 2), _BAND.shape)[_BAND]
_TURNS = np.exp(2j * np.pi * np.arange(256) / 256).astype(np.complex64)
_WINDOW = np.hanning(SIDE + 2)[1:-1, None] * np.hanning(SIDE + 2)[1:-1]


def phases(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The phases [p] of a grey picture [SIDE, SIDE] in 256ths of a turn."""
    spectrum = fft.rfft2((picture - picture.mean()) * _WINDOW)[_BAND]
    return np.asarray(np.round(np.angle(spectrum) * (128 / np.pi)).astype(int) % 256, np.uint8)


def agreement(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of the frequencies of each pair of pictures [n, p] that agree at the best shift, [n]: 1 for copies,
    about .1 for pictures that share nothing.
    """
    found = [np.empty(0)]
    for start in range(0, len(ones), PAIRS):
        part = slice(start, start + PAIRS)
        spectra = np.zeros((len(ones[part]), *_BAND.shape), np.complex64)
        spectra[:, _BAND] = _TURNS[ones[part] - others[part]] * _WEIGHTS
        shifts = np.roll(fft.irfft2(spectra, s=(SIDE, SIDE)), (REACH, REACH), (1, 2))
        best = shifts[:, : 2 * REACH + 1, : 2 * REACH + 1].max(axis=(1, 2))
        found.append(best * SIDE**2 / (2 * _BAND.sum()))
    return np.concatenate(found)
