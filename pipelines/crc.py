"""CRC-32, CRC-32C and CRC-64/NVME in the manner of hashlib, as S3 keeps them: the high byte first.

zlib has the first alone. The others follow the bit-reflected definitions of the RevEng catalogue, on many stretches of
the data at once: as a CRC is linear, the value of a whole is put together from the values of its stretches.
"""

import zlib
from functools import cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

STRETCH = 4096  # bytes; updates of a few MiB keep a thousand stretches busy (60 MB/s on one core)


class Crc32:
    """zlib's CRC-32."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Adds `data`."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """4 bytes."""
        return self._value.to_bytes(4, "big")


class _Reflected:
    """A CRC of `BITS` bits, reflected, with all bits set at the start and inverted at the end."""

    BITS: int
    POLYNOMIAL: int  # reflected

    def __init__(self) -> None:
        self._ones = (1 << self.BITS) - 1
        self._state = self._ones
        self._rest = b""  # less than a stretch

    def update(self, data: bytes, /) -> None:
        """Adds `data`."""
        data = self._rest + data
        count = len(data) // STRETCH
        stretches = np.frombuffer(data, np.uint8, count * STRETCH).reshape(count, STRETCH)
        zeros = _append_zeros(self.POLYNOMIAL)
        for value in _values(stretches, _table(self.POLYNOMIAL)).tolist():
            for place in range(8):
                value ^= zeros[place][self._state >> 8 * place & 255]
            self._state = value
        self._rest = data[count * STRETCH :]

    def digest(self) -> bytes:
        """`BITS` / 8 bytes."""
        table, state = _table(self.POLYNOMIAL).tolist(), self._state
        for byte in self._rest:
            state = table[(state ^ byte) & 255] ^ state >> 8
        return int(state ^ self._ones).to_bytes(self.BITS // 8, "big")


class Crc32C(_Reflected):
    """CRC-32C (Castagnoli)."""

    BITS, POLYNOMIAL = 32, 0x82F63B78


class Crc64Nvme(_Reflected):
    """CRC-64/NVME."""

    BITS, POLYNOMIAL = 64, 0x9A6C9329AC4BC9B5


@cache
def _table(polynomial: int) -> Words:
    """[256]: what a byte that leaves the register adds to it."""
    table = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        table = np.where(table & np.uint64(1), table >> np.uint64(1) ^ np.uint64(polynomial), table >> np.uint64(1))
    return table


@cache
def _append_zeros(polynomial: int) -> list[list[int]]:
    """[8][256]: what becomes of each byte of the register after a stretch of zeros."""
    places = np.arange(8, dtype=np.uint64)[:, None] * np.uint64(8)
    register = np.arange(256, dtype=np.uint64) << places
    table = _table(polynomial)
    for _ in range(STRETCH):
        register = table[register.astype(np.uint8)] ^ register >> np.uint64(8)
    return [[int(value) for value in row] for row in register]


def _values(stretches: npt.NDArray[np.uint8], table: Words) -> Words:
    """[n] registers after [n, STRETCH] bytes, each from zero."""
    register = np.zeros(len(stretches), np.uint64)
    for column in np.ascontiguousarray(stretches.T):
        register = table[register.astype(np.uint8) ^ column] ^ register >> np.uint64(8)
    return register
