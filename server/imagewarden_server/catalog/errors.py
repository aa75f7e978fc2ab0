"""Why a catalogue cannot be opened or read."""

from __future__ import annotations


class CatalogError(Exception):
    """The catalogue cannot be opened: the message names the file, what is wrong with it, and what to do.

    Attributes:
        what: the message but for what to do about a catalogue that is the state's.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what


class DamagedFeatures(CatalogError):
    """Stored local features are not what was written: the message says what is wrong with them."""


class KeyNotFound(CatalogError):
    """There is no such key."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"no key {id_}; list them with `imagewarden key list`")
