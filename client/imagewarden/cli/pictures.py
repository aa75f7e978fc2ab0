"""Adding pictures one by one: what `entry add` and `import` of a folder share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from imagewarden import AlreadyExists, Client, EntryChange, ImageWardenError, ResourceExhausted, Unavailable
from imagewarden._calls import new_id

Outcome = EntryChange | Exception | None
"""Of one picture: the change, or why it was refused; None: the bank has it already."""

_PATIENCE_SECONDS = 600.0
"""Of one picture, for which a service that is busy has no turn."""


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
        ResourceExhausted: it has had no turn for one of them in ten minutes, and would have none for the next.
    """

    def add(path: Path, request_id: str) -> EntryChange:
        return client.add_image(
            bank,
            path,
            external_id=external_id or str(path),
            labels=labels,
            source=source,
            expire_time=expires,
            note=note,
            validate_only=dry_run,
            request_id=request_id,
        )

    for path in paths:
        outcome: Outcome = None
        try:
            outcome = _in_turn(partial(add, path))
        except AlreadyExists:
            pass
        except (ImageWardenError, OSError) as error:
            if isinstance(error, Unavailable) or _busy(error):
                raise
            outcome = error
        yield path, outcome


def _in_turn(add: Callable[[str], EntryChange]) -> EntryChange:
    """Add one picture; where the service is busy, again when it says, however often that is."""
    request_id, until = new_id(), time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return add(request_id)
        except ResourceExhausted as error:
            if error.retry_after is None or time.monotonic() + error.retry_after > until:
                raise
            time.sleep(error.retry_after)


def _busy(error: Exception) -> bool:
    """Whether it has to do with how much the service has to do, and nothing with the picture."""
    return isinstance(error, ResourceExhausted) and error.retry_after is not None
