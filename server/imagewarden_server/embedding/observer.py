"""Who counts requests to the model."""

from __future__ import annotations

from typing import Protocol


class EmbeddingObserver(Protocol):
    """Who counts requests to the model."""

    def batch(self, size: int, seconds: float) -> None:
        """A request of `size` pictures was answered after so many seconds."""

    def failure(self, code: str) -> None:
        """A request failed, or its answer made no sense."""


class Silent:
    """Nobody counts."""

    def batch(self, size: int, seconds: float) -> None:
        """Nothing."""

    def failure(self, code: str) -> None:
        """Nothing."""
