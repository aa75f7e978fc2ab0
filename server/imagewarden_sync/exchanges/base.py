"""What all adapters have in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from threatexchange.utils import dataclass_json

from imagewarden import EntryRecord
from imagewarden.lists.items import BadRecord, NoPicture, Settings
from imagewarden_sync.config import ExchangeConfig


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A record that says what it should not: its name at the exchange, and why."""

    name: str
    reason: str


@dataclasses.dataclass(slots=True)
class Delta:
    """Some changes of an exchange.

    Attributes:
        checkpoint: how far the exchange is pulled once these are in force; None: not further than before.
        records: as the bank takes them; each has its name at the exchange as its external_id.
        refused: records that say what they should not.
        skipped: how many are of no pictures, or of providers that were not asked for.
        unreadable: how many there are whose very name could not be read.
    """

    checkpoint: Any = None
    records: list[EntryRecord] = dataclasses.field(default_factory=list)
    refused: list[Refusal] = dataclasses.field(default_factory=list)
    skipped: int = 0
    unreadable: int = 0

    @property
    def fetched(self) -> int:
        """How many records the exchange gave."""
        return len(self.records) + len(self.refused) + self.skipped + self.unreadable

    @property
    def names(self) -> list[str]:
        """The names of records that the exchange has, broken ones too."""
        there = [record.external_id for record in self.records if not record.removed]
        return there + [one.name for one in self.refused]

    def take(self, name: str, read: Callable[[], EntryRecord]) -> None:
        """Add the record that `read` gives, or what becomes of one that it refuses."""
        try:
            self.records.append(read())
        except NoPicture:
            self.skipped += 1
        except BadRecord as error:
            self.refused.append(Refusal(name, str(error)))


class Adapter(ABC):
    """One exchange as a fetcher of the `threatexchange` package speaks to it.

    Attributes:
        always_whole: each fetch gives all that the exchange has, and what it does not give is gone.

    Raises:
        ConfigError: a setting is wrong, or there are no good credentials.
    """

    always_whole: ClassVar[bool] = False

    def __init__(self, config: ExchangeConfig) -> None:
        self.config = config
        self.list_settings = Settings(source=config.name)

    @property
    @abstractmethod
    def checkpoint_class(self) -> Any:
        """The dataclass of the fetcher's checkpoints."""

    @abstractmethod
    def pages(self, checkpoint: Any) -> Iterator[Any]:
        """What the exchange answers, request by request, and no more of it once all is fetched.

        It raises what the package raises, which is anything. It may be abandoned.

        Args:
            checkpoint: where to go on; None: at the beginning.
        """

    @abstractmethod
    def delta(self, page: Any) -> Delta:
        """The changes of a page."""

    def to_json(self, checkpoint: Any) -> dict[str, Any]:
        """A checkpoint as JSON has it."""
        return dict(dataclass_json.dataclass_dump_dict(checkpoint))

    def from_json(self, said: Mapping[str, Any]) -> Any:
        """A checkpoint from JSON.

        Raises:
            ValueError: it is none of this exchange's.
        """
        try:
            return dataclass_json.dataclass_load_dict(dict(said), self.checkpoint_class)
        except Exception as error:  # what the package and dacite raise has no base in common
            raise ValueError(f"{self.config.kind} has no such checkpoint: {error}") from error
