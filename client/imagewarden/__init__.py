"""The ImageWarden client: ask whether a picture matches a banned image, a banned hash or a brand's logo.

    from imagewarden import Client

    with Client("127.0.0.1:50051") as client:
        result = client.check(picture)
        print(result.verdict, result.action)

`AsyncClient` has the same methods for asyncio, and `imagewarden.hook` has what an upload hook needs.
"""

from imagewarden._aio import AsyncClient
from imagewarden._audit_event import AuditEvent
from imagewarden._channel import MAX_MESSAGE_BYTES, TlsConfig
from imagewarden._enums import (
    Action,
    BankKind,
    EntryState,
    Metric,
    Opinion,
    QuarantineReason,
    SignalType,
    UndecidedCode,
    Verdict,
)
from imagewarden._errors import (
    AlreadyExists,
    ConnectionFailed,
    FailedPrecondition,
    ImageWardenError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    TimeoutExceeded,
    Unauthenticated,
    Unavailable,
)
from imagewarden._lists_aio import AsyncExport
from imagewarden._lists_sync import Export
from imagewarden._opinions import Feedback, MatchReport, Quarantine
from imagewarden._preview import HistogramBar, NearPicture, PolicyPreview, SignalPreview
from imagewarden._records import (
    EntryRecord,
    ImportAnswer,
    RecordFeatures,
    RecordHash,
    RecordVectors,
    RefusedRecord,
)
from imagewarden._retry import RetryPolicy
from imagewarden._sources import ImageSource
from imagewarden._sync import Client
from imagewarden._types import (
    AddedHash,
    Bank,
    BankChange,
    BoundingBox,
    CheckResult,
    Deletion,
    Entry,
    EntryChange,
    Evidence,
    Hash,
    HashesAdded,
    ImageInfo,
    Match,
    Policy,
    SearchResult,
    Signal,
    SimilarImage,
    StageTiming,
    Threshold,
    Transform,
    UndecidedReason,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Action",
    "AddedHash",
    "AlreadyExists",
    "AsyncClient",
    "AsyncExport",
    "AuditEvent",
    "Bank",
    "BankChange",
    "BankKind",
    "BoundingBox",
    "CheckResult",
    "Client",
    "ConnectionFailed",
    "Deletion",
    "Entry",
    "EntryChange",
    "EntryRecord",
    "EntryState",
    "Evidence",
    "Export",
    "FailedPrecondition",
    "Feedback",
    "Hash",
    "HashesAdded",
    "HistogramBar",
    "ImageInfo",
    "ImageSource",
    "ImageWardenError",
    "ImportAnswer",
    "InvalidRequest",
    "Match",
    "MatchReport",
    "Metric",
    "NearPicture",
    "NotFound",
    "Opinion",
    "PermissionDenied",
    "Policy",
    "PolicyPreview",
    "Quarantine",
    "QuarantineReason",
    "RecordFeatures",
    "RecordHash",
    "RecordVectors",
    "RefusedRecord",
    "ResourceExhausted",
    "RetryPolicy",
    "SearchResult",
    "ServerError",
    "Signal",
    "SignalPreview",
    "SignalType",
    "SimilarImage",
    "StageTiming",
    "Threshold",
    "TimeoutExceeded",
    "TlsConfig",
    "Transform",
    "Unauthenticated",
    "Unavailable",
    "UndecidedCode",
    "UndecidedReason",
    "Verdict",
]

# What a user sees in a traceback or a repr is the name to import, not where the code happens to stand.
for _name in __all__:
    _member = globals()[_name]
    if getattr(_member, "__module__", "").startswith("imagewarden._"):
        _member.__module__ = "imagewarden"
del _name, _member
