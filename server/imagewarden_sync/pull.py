"""One synchronisation of one exchange: fetch a delta, bring it in, and only then remember how far."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from imagewarden import BankKind, Client, EntryRecord, ImageWardenError
from imagewarden.lists.items import shown
from imagewarden_sync import fetching, log, sweep
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import ConfigError, of_the_service
from imagewarden_sync.exchanges.base import Adapter, Delta
from imagewarden_sync.progress import Progress, Store, name_of
from imagewarden_sync.status import Counts

_MOST_TOLD = 20
"""Of refused records, so many of a delta are told one by one."""
_MOST_NAME = 256


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How to pull.

    Attributes:
        target: the service's address: what was pulled into another is not here.
        whole: fetch all, whatever was fetched before.
        force: take out what is gone, however much that is.
        dry_run: have the service check all, and change nothing, here or there.
    """

    target: str
    whole: bool = False
    force: bool = False
    dry_run: bool = False


class Pull:
    """One synchronisation.

    Attributes:
        counts: what became of records until now.
        up_to: the exchange's changes until then are in force, in seconds since 1970; 0: it does not say.

    Args:
        config: of which exchange.
        adapter: speaks to it.
        store: what is kept of it.
        client: of the service.
        how: to pull.
        stopped: whether to end after the delta at hand.
    """

    def __init__(
        self,
        config: ExchangeConfig,
        adapter: Adapter,
        store: Store,
        client: Client,
        how: How,
        stopped: Callable[[], bool],
    ) -> None:
        self.counts = Counts()
        self.up_to = 0.0
        self._config = config
        self._adapter = adapter
        self._store = store
        self._client = client
        self._how = how
        self._stopped = stopped
        self._seen: set[bytes] = set()
        # A new file of the same settings is the same list; where it goes and what is asked of it are not.
        asked = {key: value for key, value in config.settings.items() if key != "credentials_file"}
        self._scope: dict[str, Any] = {"kind": config.kind, "bank": config.bank, "service": how.target, **asked}

    def run(self) -> bool:
        """Pull until nothing is left, or until it is stopped; whether nothing is left.

        Raises:
            SyncError: what keeps it from going on; what was brought in until then stays, and is not fetched again.
        """
        progress, checkpoint = self._begin()
        try:
            self._check_bank()
            for page in fetching.pages(self._adapter, checkpoint):
                delta = self._adapter.delta(page)
                self._bring_in(delta.records)
                progress = self._remember(progress, delta)
                self._tell(delta)
                if self._stopped():
                    return False
            if progress.whole:
                self._finish_whole(progress)
        except ImageWardenError as error:
            raise of_the_service(error) from error
        return True

    def _check_bank(self) -> None:
        """Before anything is fetched: what a bank refuses does not come again.

        Raises:
            ConfigError: it is of another kind.
        """
        bank = self._client.get_bank(self._config.bank)
        if bank.kind is not BankKind.BANNED:
            raise ConfigError(
                f"{bank.name} is of kind {bank.kind}, and an exchange's hashes go into one of kind banned: make "
                "one with `imagewarden bank create`"
            )

    def _begin(self) -> tuple[Progress, Any]:
        """How far the exchange is pulled, and its checkpoint: none where it begins anew."""
        kept = self._store.load()
        checkpoint = None
        why = ""
        if kept is None:
            why = "it is the first time"
        elif self._how.whole:
            why = "--full asks for it"
        elif self._adapter.always_whole:
            why = "it has no other way"
        elif kept.scope != self._scope:
            why = "its settings are others"
        elif kept.checkpoint is not None:
            checkpoint = self._checkpoint_of(kept)
            if checkpoint.is_stale():
                checkpoint, why = None, "the last time is so long ago that the exchange has forgotten what it took back"
        else:
            why = "the last time ended before its first checkpoint"
        if checkpoint is not None and kept is not None:
            self._seen = self._store.seen(kept) if kept.whole and self._how.dry_run else set()
            return kept, checkpoint
        log.info("whole", exchange=self._config.name, why=why)
        progress = Progress(self._scope)
        if not self._how.dry_run:
            self._store.save(progress)
        return progress, None

    def _checkpoint_of(self, kept: Progress) -> Any:
        try:
            checkpoint = self._adapter.from_json(kept.checkpoint or {})
        except ValueError as error:
            raise self._store.damaged(str(error)) from error
        self._note(checkpoint)
        return checkpoint

    def _note(self, checkpoint: Any) -> None:
        said = checkpoint.get_progress_timestamp()
        # NCMEC's last range ends a moment ago; nobody's changes are of the future.
        self.up_to = min(float(said), time.time()) if said else 0.0

    def _bring_in(self, records: list[EntryRecord]) -> None:
        """Have the service take records; all that it does not refuse is in force when this returns."""
        counts = self.counts
        answers = self._client.import_entries(self._config.bank, enumerate(records, 1), validate_only=self._how.dry_run)
        for answer in answers:
            counts.added += answer.added
            counts.updated += answer.updated
            counts.unchanged += answer.unchanged
            counts.removed += answer.removed
            counts.absent += answer.absent
            self._refuse(
                [(records[one.number - 1].external_id, f"{one.field} {one.message}".strip()) for one in answer.refused]
            )

    def _refuse(self, refused: list[tuple[str, str]]) -> None:
        self.counts.refused += len(refused)
        for name, reason in refused[:_MOST_TOLD]:
            log.warning("refused", exchange=self._config.name, record=shown(name, _MOST_NAME), reason=reason)
        if len(refused) > _MOST_TOLD:
            log.warning("refused", exchange=self._config.name, more=len(refused) - _MOST_TOLD)

    def _remember(self, progress: Progress, delta: Delta) -> Progress:
        """Write down that a delta is in force, names before checkpoint; how far then."""
        progress = dataclasses.replace(progress, unreadable=progress.unreadable + delta.unreadable)
        if progress.whole and self._how.dry_run:
            self._seen.update(map(name_of, delta.names))
        elif progress.whole:
            progress = dataclasses.replace(progress, seen=self._store.see(progress, delta.names))
        if delta.checkpoint is None:
            return progress
        self._note(delta.checkpoint)
        progress = dataclasses.replace(progress, checkpoint=self._adapter.to_json(delta.checkpoint))
        if not self._how.dry_run:
            self._store.save(progress)
        return progress

    def _tell(self, delta: Delta) -> None:
        counts = self.counts
        counts.fetched += delta.fetched
        counts.skipped += delta.skipped
        self._refuse([(one.name, one.reason) for one in delta.refused])
        if delta.unreadable:
            counts.refused += delta.unreadable
            log.warning("unreadable", exchange=self._config.name, records=delta.unreadable)
        if delta.fetched:
            log.info(
                "delta",
                exchange=self._config.name,
                fetched=delta.fetched,
                skipped=delta.skipped,
                refused=len(delta.refused) + delta.unreadable,
            )

    def _finish_whole(self, progress: Progress) -> None:
        """All was fetched: what the exchange does not have goes."""
        if progress.unreadable:
            log.warning(
                "kept",
                exchange=self._config.name,
                why=f"{progress.unreadable} records could not be read, so what is gone cannot be told: once the "
                "exchange or the package is mended, sync with --full",
            )
        else:
            seen = self._seen if self._how.dry_run else self._store.seen(progress)
            gone = sweep.gone(self._client, self._config, seen, force=self._how.force)
            if gone:
                log.info("gone", exchange=self._config.name, entries=len(gone))
                self._bring_in([EntryRecord(id=one, removed=True) for one in gone])
        if not self._how.dry_run:
            self._store.save(dataclasses.replace(progress, whole=False, seen=0, unreadable=0))
            self._store.forget_seen()
