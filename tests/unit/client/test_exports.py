"""What `import imagewarden` gives, and that it gives nothing else."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types

import pytest

import imagewarden
from imagewarden import AsyncClient, Client

NAMES = [
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
    "Evidence",
    "Match",
    "MatchReport",
    "Metric",
    "NearPicture",
    "NotFound",
    "Opinion",
    "PermissionDenied",
    "Policy",
    "RecordFeatures",
    "RecordHash",
    "RecordVectors",
    "RefusedRecord",
    "PolicyPreview",
    "Quarantine",
    "QuarantineReason",
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
    "Transform",
    "TimeoutExceeded",
    "TlsConfig",
    "Unauthenticated",
    "Unavailable",
    "UndecidedCode",
    "UndecidedReason",
    "Verdict",
]

METHODS = [
    "add_hashes",
    "add_image",
    "check",
    "check_batch",
    "check_stream",
    "close",
    "create_bank",
    "delete_bank",
    "delete_entry",
    "export_entries",
    "get_bank",
    "get_entry",
    "import_entries",
    "list_audit_events",
    "list_banks",
    "list_entries",
    "preview_policy",
    "read_audit_event",
    "register_logo",
    "report_match",
    "search",
    "update_bank",
    "update_entry",
]


def test_the_exported_names_are_these() -> None:
    public = [
        name
        for name, value in vars(imagewarden).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]
    assert sorted(public) == sorted(imagewarden.__all__) == sorted(NAMES)


def test_exported_classes_say_where_they_are_imported_from() -> None:
    modules = {getattr(imagewarden, name).__module__ for name in NAMES if isinstance(getattr(imagewarden, name), type)}
    assert modules == {"imagewarden"}


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_both_clients_have_the_same_methods(client: type) -> None:
    methods = [name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))]
    assert sorted(methods) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_take_the_same_arguments_and_document_them(name: str) -> None:
    blocking, asynchronous = getattr(Client, name), getattr(AsyncClient, name)
    assert list(inspect.signature(blocking).parameters) == list(inspect.signature(asynchronous).parameters)
    assert next(iter(inspect.signature(blocking).parameters)) == "self"
    assert blocking.__doc__
    assert asynchronous.__doc__
    assert blocking.__name__ == asynchronous.__name__ == name


def test_the_import_loads_neither_the_command_line_nor_anything_heavy() -> None:
    code = "import sys, imagewarden, imagewarden.hook; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "tensorflow", "typer", "rich", "PIL", "sqlalchemy"} & set(loaded)
    assert "grpc" in loaded
