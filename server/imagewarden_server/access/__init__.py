"""Who may do what: roles, keys, the sessions of calls, and what they were refused. It knows no gRPC and no SQL."""

from imagewarden_server.access.authority import Authority, KeyStore
from imagewarden_server.access.keys import Key, NewKey, new_key
from imagewarden_server.access.refusals import Refusals
from imagewarden_server.access.roles import METHODS, Method, Role
from imagewarden_server.access.sessions import OPEN, Caller, Refusal, Session, begin, current

__all__ = [
    "METHODS",
    "OPEN",
    "Authority",
    "Caller",
    "Key",
    "KeyStore",
    "Method",
    "NewKey",
    "Refusal",
    "Refusals",
    "Role",
    "Session",
    "begin",
    "current",
    "new_key",
]
