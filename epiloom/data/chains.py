"""Chain files of UCSC: which place of one assembly is which of another."""

from __future__ import annotations

from pathlib import Path

from pyliftover import LiftOver

from epiloom.data.eqtls import Convert
from epiloom.data.files import open_bytes
from epiloom.plan.errors import InputError


def read_chain(path: str | Path) -> Convert:
    """A function from a place (chromosome, 0-based position) to its places in the other assembly.

    Args:
        path: a chain file, plain or gzip.

    Raises:
        InputError: missing, or no chain file.
    """
    try:
        with open_bytes(path) as file:
            found = LiftOver(file)
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except Exception as err:  # the library raises bare exceptions for malformed lines
        raise InputError(path, f"is no chain file ({err}); download it again") from err
    if not found.chain_file.chains:
        raise InputError(path, "holds no chain; give a chain file (UCSC's end in .over.chain.gz)")
    return found.convert_coordinate
