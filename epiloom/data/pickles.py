"""Foreign pickles, read without running what they hold."""

from __future__ import annotations

import collections
import pickle
import struct
from pathlib import Path
from typing import Any

from epiloom.plan.errors import InputError

_NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "u8": "Q", "u4": "I"}


class _Number:
    """Stands in for numpy.dtype, so that no code of numpy sees foreign content."""

    def __init__(self, code: str, *_: object):
        self.code = str(code).lstrip("<=|")

    def __setstate__(self, state: object) -> None:
        pass  # byte order and the like: only little-endian files exist


def _scalar(kind: _Number, data: bytes) -> float | int:
    """Stands in for numpy's scalar constructor."""
    if not isinstance(kind, _Number) or kind.code not in _NUMBERS:
        raise pickle.UnpicklingError(f"a numpy scalar of kind {getattr(kind, 'code', kind)!r}")
    return struct.unpack(f"<{_NUMBERS[kind.code]}", data)[0]


ALLOWED: dict[tuple[str, str], Any] = {
    **{("builtins", t.__name__): t for t in (dict, list, tuple, set, frozenset, str, int, float)},
    **{("__builtin__", t.__name__): t for t in (dict, list, tuple, set, frozenset, int, float)},
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): _Number,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]


def read_plain_pickle(path: str | Path) -> Any:
    """What a pickle of containers, text and numbers holds; anything else is refused, not run.

    Raises:
        InputError: no pickle, cut short, or one that holds other things.
    """
    try:
        with Path(path).open("rb") as file:
            return _Plain(file).load()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    # A foreign file can fail in any way while it is read.
    except Exception as err:
        raise InputError(
            path,
            f"is no pickle of plain containers, text and numbers ({err}); nothing in it was run: "
            "download it again, or give the contacts as a table (contacts.source file)",
        ) from err
