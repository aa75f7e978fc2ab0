"""Resource names, which people may shorten."""

from __future__ import annotations

from imagewarden._errors import InvalidRequest


def bank_name(name: str, *, field: str = "name") -> str:
    """`banks/x` of `x` or `banks/x`."""
    if not name.removeprefix("banks/"):
        raise InvalidRequest(f"{field} is {name!r}; name a bank, as in 'abuse' or 'banks/abuse'", field=field)
    return name if name.startswith("banks/") else f"banks/{name}"


def entry_name(name: str, *, field: str = "name") -> str:
    """`banks/x/entries/y` of `x/y` or `banks/x/entries/y`."""
    parts = name.split("/")
    if len(parts) == 2 and all(parts) and parts[0] != "banks":
        return f"banks/{parts[0]}/entries/{parts[1]}"
    if len(parts) == 4 and parts[0] == "banks" and parts[2] == "entries" and parts[1] and parts[3]:
        return name
    raise InvalidRequest(
        f"{field} is {name[:120]!r}; name an entry, as in 'abuse/0123abcd' or 'banks/abuse/entries/0123abcd'",
        field=field,
    )


def short_bank(name: str) -> str:
    """The {bank} of `banks/{bank}`."""
    return name.removeprefix("banks/")


def short_entry(name: str) -> str:
    """`{bank}/{entry}` of `banks/{bank}/entries/{entry}`."""
    return name.removeprefix("banks/").replace("/entries/", "/", 1)
