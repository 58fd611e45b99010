"""UCSC .2bit files: bases of any stretch, straight from the packed bytes.

Written here because the usual library reads past the end of a file that is cut short.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from epiloom.plan.errors import InputError

MAGIC = 0x1A412743
OTHER = 4
# Four bases per byte, the first in the high bits; T, C, A, G = 0..3 there, A, C, G, T here.
_BASES = np.array([3, 1, 0, 2], np.uint8)
_UNPACK = np.ascontiguousarray(
    _BASES[(np.arange(256)[:, None] >> np.array([6, 4, 2, 0])) & 3]
).view(np.uint32)[:, 0]


class _Record(NamedTuple):
    """Where a sequence lies: its length, first packed byte, and stretches of N."""

    length: int
    packed: int
    unknown_starts: np.ndarray
    unknown_ends: np.ndarray


def is_twobit(path: str | Path) -> bool:
    """Whether a file begins like a .2bit file. Raises InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as err:
        raise InputError(path, f"cannot be read ({err.strerror}); check the path") from err
    return head in (struct.pack("<I", MAGIC), struct.pack(">I", MAGIC))


class TwoBit:
    """An open .2bit file.

    Attributes:
        lengths: sequence -> bases.

    Raises:
        InputError: another format, or cut short.
    """

    def __init__(self, path: str | Path):
        if not is_twobit(path):
            raise InputError(path, "is not a .2bit file; download it again")
        self.path = path
        self.data = np.memmap(path, np.uint8, "r").view(np.ndarray)
        self._order = "<" if self.data[0] == MAGIC & 255 else ">"
        try:
            self._records = {name: self._record(at) for name, at in self._index()}
        except (struct.error, IndexError, ValueError) as err:
            raise InputError(
                path, f"is cut short or damaged ({len(self.data)} bytes); download it again"
            ) from err
        self.lengths = {name: record.length for name, record in self._records.items()}

    def _numbers(self, at: int, n: int) -> np.ndarray:
        """n whole numbers of four bytes, int64 [n]."""
        part = self.data[at : at + 4 * n]
        if len(part) < 4 * n:
            raise IndexError(at)
        return part.view(f"{self._order}u4").astype(np.int64)

    def _index(self) -> list[tuple[str, int]]:
        """(name, place of the record) of every sequence."""
        _, version, count, _ = self._numbers(0, 4)
        if version > 1:
            raise InputError(self.path, f"is of version {version}; give version 0 or 1")
        wide = struct.Struct(self._order + ("Q" if version else "I"))  # 64-bit places in version 1
        found, at = [], 16
        for _ in range(count):
            end = at + 1 + int(self.data[at])
            name = self.data[at + 1 : end].tobytes().decode()
            found.append((name, wide.unpack(self.data[end : end + wide.size])[0]))
            at = end + wide.size
        return found

    def _record(self, at: int) -> _Record:
        length, n = self._numbers(at, 2)
        starts, sizes = self._numbers(at + 8, 2 * n).reshape(2, n)
        at += 8 + 8 * int(n)
        soft = int(self._numbers(at, 1)[0])  # soft-masked stretches are skipped
        packed = at + 4 + 8 * soft + 4
        if packed - (-length // 4) > len(self.data):
            raise IndexError(packed)
        return _Record(int(length), packed, starts, starts + sizes)

    def codes(self, name: str, start: int, end: int) -> np.ndarray:
        """Bases [start, end) of a sequence, uint8 A, C, G, T = 0..3, N = 4."""
        record = self._records[name]
        first = record.packed + start // 4
        packed = self.data[first : record.packed - (-end // 4)]
        codes = np.take(_UNPACK, packed).view(np.uint8)[start % 4 :][: end - start]
        here = (record.unknown_starts < end) & (record.unknown_ends > start)
        for a, b in zip(record.unknown_starts[here], record.unknown_ends[here], strict=True):
            codes[max(a - start, 0) : b - start] = OTHER
        return codes
