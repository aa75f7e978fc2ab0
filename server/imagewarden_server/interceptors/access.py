"""Knows the caller of each call, whose role and limits decide; where no keys are asked for, all are let through."""

from __future__ import annotations

from collections.abc import Sequence

from imagewarden_server import access, logs
from imagewarden_server.access.roles import METHODS, OPEN_METHODS
from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.matching import actor

HEADER = "authorization"
_NAMES = ("x509_subject_alternative_name", "x509_common_name")


class Access(Concern):
    """Identifies, permits, counts; whoever may do what is in `access.roles`.

    Args:
        authority: None: no keys are asked for.
    """

    def __init__(self, authority: access.Authority | None) -> None:
        self._authority = authority

    def begin(self, call: Call) -> access.Session | None:
        """Let the call through, or refuse it."""
        name = f"{call.service}/{call.method}"
        if name in OPEN_METHODS:
            return None
        session = access.OPEN if self._authority is None else self._identified(self._authority, call)
        access.begin(session)
        actor.acting(actor.Actor(session.caller.name, call.method, logs.current_request_id()))
        if self._authority is None:
            return None
        logs.annotate(caller=session.caller.name)
        session.permit(name)
        if not METHODS[name].by_item:
            session.spend()
        session.enter()
        return session

    def end(self, call: Call, begun: access.Session | None, error: BaseException | None) -> None:  # noqa: ARG002 -- as every concern is told
        """One call less at once."""
        if begun is not None:
            begun.leave()

    @staticmethod
    def _identified(authority: access.Authority, call: Call) -> access.Session:
        return authority.identify(
            call.header(HEADER),
            _certificate(call),
            method=call.method,
            peer=call.context.peer(),
            request_id=logs.current_request_id(),
        )


def _certificate(call: Call) -> Sequence[str]:
    """The names of the client certificate that TLS has checked: the alternative names first (RFC 6125)."""
    shown = call.context.auth_context()
    return [name.decode("utf-8", "replace") for kind in _NAMES for name in shown.get(kind, ())]
