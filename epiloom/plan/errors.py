"""Errors a person can act on: every message names the file, the key or value, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """What was given does not fit. Shown without a traceback; holds all problems, not the first.

    Args:
        where: the file (or key of the configuration) that the problems are in.
        problems: one line each, naming key, value and remedy.
    """

    def __init__(self, where: object, problems: str | Sequence[str]):
        self.where = str(where)
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__(self.where, self.problems)

    def __str__(self) -> str:
        return "\n".join([f"{self.where}:", *(f"  - {line}" for line in self.problems)])
