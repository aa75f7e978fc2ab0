"""Every domain error has its row in the table of statuses, and says what a program needs."""

from __future__ import annotations

import inspect

from google.rpc import code_pb2, error_details_pb2

from imagewarden.v1 import error_reason_pb2 as reasons
from imagewarden_server.api import errors as table
from imagewarden_server.matching import errors


def test_every_domain_error_has_its_row() -> None:
    every = {
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.DomainError) and one is not errors.DomainError
    }
    assert set(table._TABLE) == every


def test_every_reason_of_the_api_is_sent_by_one_row() -> None:
    sent = {reason for _, reason in table._TABLE.values()} | {reasons.ERROR_REASON_INTERNAL}
    assert sent == set(reasons.ErrorReason.values()) - {reasons.ERROR_REASON_UNSPECIFIED}


def test_an_invalid_field_is_named_twice_over() -> None:
    status = table.to_status(errors.InvalidField("banks[0]", "is odd"))
    assert status.code == code_pb2.INVALID_ARGUMENT
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain, dict(info.metadata)) == ("INVALID_FIELD", "imagewarden.v1", {"field": "banks[0]"})
    assert [(one.field, one.description) for one in bad.field_violations] == [("banks[0]", "is odd")]


def test_what_passes_by_itself_says_when_to_try_again() -> None:
    status = table.to_status(errors.EmbeddingUnavailable("the model is not there"))
    retry = error_details_pb2.RetryInfo()
    assert status.code == code_pb2.UNAVAILABLE
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_a_finer_kind_is_answered_as_its_own_kind() -> None:
    class ModelChanged(errors.EmbeddingUnavailable):
        """A kind that one part of the server has for itself."""

    assert table.to_status(ModelChanged("twice")).code == code_pb2.UNAVAILABLE


def test_a_bug_says_nothing_of_its_inside() -> None:
    status = table.internal_error("abc123")
    assert status.code == code_pb2.INTERNAL
    assert "abc123" in status.message
