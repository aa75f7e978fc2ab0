"""Why a catalogue cannot be opened."""

from __future__ import annotations


class CatalogError(Exception):
    """The catalogue cannot be opened: the message names the file, what is wrong with it, and what to do."""
