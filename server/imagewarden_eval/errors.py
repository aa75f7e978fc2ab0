"""What can go wrong in a run: one class, so that the command says it in one line."""

from __future__ import annotations


class EvaluationError(Exception):
    """A run cannot be made; the message says what happened, with which value, and what to do."""
