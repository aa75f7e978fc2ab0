"""Adding pictures one by one: what `entry add` and `import` of a folder share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from imagewarden import AlreadyExists, Client, EntryChange, ImageWardenError, Unavailable

Outcome = EntryChange | Exception | None
"""Of one picture: the change, or why it was refused; None: the bank has it already."""


def add_each(
    client: Client,
    bank: str,
    paths: Iterable[Path],
    *,
    external_id: str = "",
    labels: Sequence[str] = (),
    source: str = "",
    expires: datetime | None = None,
    note: str = "",
    dry_run: bool = False,
) -> Iterator[tuple[Path, Outcome]]:
    """Ban or allow pictures; each file's path is its external id unless one is given.

    Raises:
        Unavailable: the service is gone, and with it all that would come after.
    """
    for path in paths:
        outcome: Outcome = None
        try:
            outcome = client.add_image(
                bank,
                path,
                external_id=external_id or str(path),
                labels=labels,
                source=source,
                expire_time=expires,
                note=note,
                validate_only=dry_run,
            )
        except AlreadyExists:
            pass
        except Unavailable:
            raise
        except (ImageWardenError, OSError) as error:
            outcome = error
        yield path, outcome
