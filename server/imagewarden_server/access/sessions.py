"""One call's caller: what it may do, asked where it is about to be done; and what it was refused, noted."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from imagewarden_server.access.meter import Meter
from imagewarden_server.access.roles import METHODS, Role
from imagewarden_server.matching.errors import PermissionDenied, RateLimited, Unauthenticated
from imagewarden_server.matching.patches import PolicyPatch
from imagewarden_server.matching.types import Action, BankKind, Policy
from imagewarden_server.matching.visible import ALL_BANKS, Banks

_BUSY_SECONDS = 1.0
_QUARANTINE = ("quarantine_false_positives", "quarantine_flood")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: for logs and audit events.
    """

    name: str
    role: Role
    banks: Banks


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused to whom.

    Attributes:
        actor: the caller's name; of one that is not known, where it calls from.
        method: the method's name.
        resource: the bank; empty where it is the method itself.
        reason: as the API names it.
    """

    actor: str
    method: str
    resource: str
    reason: str
    request_id: str


Note = Callable[[Refusal], None]

UNKNOWN = "unknown"
"""The beginning of how a caller without a key is named."""


class Session:
    """One call by one caller."""

    def __init__(
        self,
        caller: Caller,
        method: str = "",
        *,
        meter: Meter | None = None,
        good: Callable[[], bool] = lambda: True,
        note: Note = lambda _: None,
        request_id: str = "",
    ) -> None:
        self.caller = caller
        self._method = method
        self._meter = meter
        self._good = good
        self._note = note
        self._request_id = request_id

    def permit(self, method: str) -> None:
        """Let the caller's role call a method, by its full name.

        Raises:
            PermissionDenied: the table does not say that it may.
        """
        row = METHODS.get(method)
        if row is None or self.caller.role not in row.roles:
            self._refused("", "PERMISSION_DENIED")
            raise PermissionDenied(
                f"{self.caller.name} is a {self.caller.role.value} and may not call {method.rpartition('/')[2]}; use a "
                "key of a role that may",
                role=self.caller.role.value,
            )

    def permit_bank(self, bank_id: str) -> None:
        """Let the caller see and change a bank; whether there is one of that name is not said.

        Raises:
            PermissionDenied: its key does not name it.
        """
        if not self.caller.banks.has(bank_id):
            self._refused(f"banks/{bank_id}", "PERMISSION_DENIED")
            raise PermissionDenied(
                f"{self.caller.name} may not use banks/{bank_id}; use a key that is good for it",
                bank=f"banks/{bank_id}",
            )

    def permit_kind(self, bank_id: str, kind: BankKind) -> None:
        """Let the caller change what is in a bank of a kind: a brand's team its brand's, and no list of bans.

        Raises:
            PermissionDenied: its role may not.
        """
        if self.caller.role is Role.BRAND and kind is not BankKind.BRAND:
            self._refused(f"banks/{bank_id}", "PERMISSION_DENIED")
            raise PermissionDenied(
                f"{self.caller.name} is a brand and may not change banks/{bank_id}, which is {kind.value.upper()}; "
                "use a key of a moderator",
                bank=f"banks/{bank_id}",
            )

    def permit_policy(self, bank_id: str, before: Policy, asked: PolicyPatch | None) -> None:
        """Let the caller give a bank another policy; what somebody else made BLOCK may stay so.

        Args:
            bank_id: the bank.
            before: what is in force.
            asked: what is to change of it; None: nothing.

        Raises:
            PermissionDenied: a brand would have its bank block, or switch its quarantine off.
        """
        # Its logo is whatever its team says: with BLOCK a brand alone could have everybody's uploads refused.
        if self.caller.role is not Role.BRAND or asked is None:
            return
        off = [name for name in _QUARANTINE if getattr(before, name) and getattr(asked, name) == 0]
        denied = [f"policy.{name} to 0 (never)" for name in off]
        if asked.action is Action.BLOCK and before.action is not Action.BLOCK:
            denied.insert(0, "policy.action to BLOCK")
        if denied:
            self._refused(f"banks/{bank_id}", "PERMISSION_DENIED")
            raise PermissionDenied(
                f"{self.caller.name} is a brand and may not set {' and '.join(denied)} in banks/{bank_id}; ask a "
                "moderator or an admin, who may",
                bank=f"banks/{bank_id}",
            )

    def enter(self) -> None:
        """Begin a call.

        Raises:
            RateLimited: as many of the key's run as may.
        """
        if self._meter is not None and not self._meter.enter():
            self._refused("", "RATE_LIMITED")
            raise RateLimited(
                f"{self.caller.name} has as many calls at once as it may ({self._meter.said}); wait for one to end",
                retry_after=_BUSY_SECONDS,
            )

    def leave(self) -> None:
        """End a call that was begun."""
        if self._meter is not None:
            self._meter.leave()

    def go_on(self) -> None:
        """Go on with a stream, which may be open for long; nothing is counted.

        Raises:
            Unauthenticated: the key was good when the call began, and is no longer.
        """
        if not self._good():
            self._refused("", "UNAUTHENTICATED")
            raise Unauthenticated(f"{self.caller.name} is no longer good; show another key")

    def spend(self, calls: int = 1) -> None:
        """Count calls.

        Raises:
            Unauthenticated: as `go_on` does.
            RateLimited: the key's calls of this second are used up.
        """
        self.go_on()
        wait = self._meter.spend(calls) if self._meter is not None else 0.0
        if self._meter is not None and wait:
            self._refused("", "RATE_LIMITED")
            raise RateLimited(
                f"{self.caller.name} has used up its calls ({self._meter.said}); come back in {wait:.2g} s",
                retry_after=wait,
            )

    def _refused(self, resource: str, reason: str) -> None:
        self._note(Refusal(self.caller.name, self._method, resource, reason, self._request_id))


OPEN = Session(Caller("local", Role.ADMIN, ALL_BANKS))
"""Where no keys are asked for: whoever reaches the server may do all."""

_current: ContextVar[Session] = ContextVar("imagewarden_session", default=OPEN)


def current() -> Session:
    """The call that runs in this task."""
    return _current.get()


def begin(session: Session) -> None:
    """The call that runs in this task from now on."""
    _current.set(session)
