"""Which banks a caller may see and change."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"\*|[a-z][a-z0-9-]{0,62}\*?")


@dataclass(frozen=True, slots=True)
class Banks:
    """Banks by their ids or the beginnings of them.

    Attributes:
        patterns: an id each, or its beginning and `*`; `*` alone is all banks, and none at all is no bank.
    """

    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where a pattern is none."""
        for pattern in self.patterns:
            if _PATTERN.fullmatch(pattern) is None:
                raise ValueError(f"{pattern!r} is no bank's name, nor the beginning of one with * behind it")

    def has(self, bank_id: str) -> bool:
        """Whether a bank is one of them."""
        return any(
            bank_id.startswith(pattern[:-1]) if pattern.endswith("*") else bank_id == pattern
            for pattern in self.patterns
        )

    @property
    def all(self) -> bool:
        """Whether these are all banks there are and will be."""
        return "*" in self.patterns


ALL_BANKS = Banks(("*",))
