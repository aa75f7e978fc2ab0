"""After all of an exchange was fetched: the entries that it brought once and no longer has."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from imagewarden import Client
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import SweepRefused
from imagewarden_sync.progress import name_of


def gone(client: Client, config: ExchangeConfig, seen: AbstractSet[bytes], *, force: bool) -> list[str]:
    """The ids of the bank's entries that this exchange brought, by their source, and that were not seen.

    Entries without an external_id are nobody's: this command makes none such.

    Raises:
        SweepRefused: they are more than half of what it brought, and are not taken out by force.
    """
    brought = 0
    missing: list[str] = []
    for record in client.export_entries(config.bank):
        if record.source != config.name or not record.external_id:
            continue
        brought += 1
        if name_of(record.external_id) not in seen:
            missing.append(record.id)
    if 2 * len(missing) > brought and not force:
        raise SweepRefused(
            f"the exchange no longer has {len(missing)} of the {brought} entries that it brought: nothing was taken "
            "out; what is new is in. Look whether it answers all that it should, and if so, sync once with --force"
        )
    return missing
