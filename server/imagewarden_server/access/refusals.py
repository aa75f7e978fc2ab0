"""Refusals on their way to the audit log: gathered for a few seconds, so that who is refused can't fill the disk."""

from __future__ import annotations

import threading
from collections import Counter

from imagewarden_server.access.sessions import UNKNOWN, Refusal
from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.audit import AuditLog

_MOST_KINDS = 1_000
_MOST_STRANGERS = 20
_OTHERS = "others"


class Refusals:
    """Gathers refusals; thread-safe.

    Those of one actor, method, bank and reason are one event with their number; of more than a thousand kinds within
    one gathering the rest are counted together. Strangers have a small share of their own: nothing that they do hides
    what others were refused.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._count: Counter[tuple[str, str, str, str]] = Counter()
        self._first: dict[tuple[str, str, str, str], str] = {}

    def note(self, refusal: Refusal) -> None:
        """One refusal."""
        kind = (refusal.actor, refusal.method, refusal.resource, refusal.reason)
        with self._lock:
            stranger = refusal.actor.startswith(f"{UNKNOWN} ")
            most = _MOST_STRANGERS if stranger else _MOST_KINDS
            if kind not in self._count and sum(_strange(one) == stranger for one in self._count) >= most:
                kind = (f"{UNKNOWN} {_OTHERS}" if stranger else _OTHERS, "", "", refusal.reason)
            self._count[kind] += 1
            self._first.setdefault(kind, refusal.request_id)

    def write(self) -> None:
        """Add what was gathered to the log, each event with the request id of its first; blocking."""
        with self._lock:
            count, first = self._count, self._first
            self._count, self._first = Counter(), {}
        if not count:
            return
        try:
            self._log.refused(
                [
                    (Actor(who, method, first[who, method, resource, reason]), resource, reason, number)
                    for (who, method, resource, reason), number in count.items()
                ]
            )
        except BaseException:  # whatever it was, what was gathered is written another time
            with self._lock:
                self._count, self._first = self._count + count, first | self._first
            raise


def _strange(kind: tuple[str, str, str, str]) -> bool:
    return kind[0].startswith(f"{UNKNOWN} ")
