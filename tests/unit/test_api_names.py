"""Names, page tokens, masks and revision tokens: what a request may say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import convert, masks, names, paging
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.revisions import decode_revision, encode_revision
from imagewarden_server.matching.types import Action, Bank, BankKind, SignalType


@pytest.mark.parametrize(
    "name", ["", "abuse", "banks/", "banks/Abuse", "banks/-x", "banks/a/b", "banks/" + "a" * 64, "banks/a\n", "banks/ä"]
)
def test_a_wrong_bank_name_is_refused_by_field(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        names.bank_id("bank", name)
    assert caught.value.metadata == {"field": "bank"}


def test_names_are_read() -> None:
    assert names.bank_id("bank", "banks/abuse-2026") == "abuse-2026"
    assert names.entry_ids("name", "banks/a/entries/0_x-Y") == ("a", "0_x-Y")
    with pytest.raises(InvalidField):
        names.entry_ids("name", "banks/a/entries/..")


def test_limits_on_what_owners_say() -> None:
    with pytest.raises(InvalidField, match="257 characters"):
        names.text("source", "x" * 257)
    with pytest.raises(InvalidField, match="65 labels"):
        names.labels("labels", [str(one) for one in range(65)])
    with pytest.raises(InvalidField, match="empty label"):
        names.labels("labels", [""])
    assert names.labels("labels", ["b", "a", "b"]) == ("b", "a")
    with pytest.raises(InvalidField, match="17 pairs"):
        names.context({str(one): "" for one in range(17)})
    with pytest.raises(InvalidField, match="no UUID"):
        names.request_id("once")


def test_a_page_token_is_bound_to_its_listing() -> None:
    request = pb.ListEntriesRequest(bank="banks/a", label="x", page_size=10)
    token = paging.next_token(request, 77)
    assert (
        paging.after_of(pb.ListEntriesRequest(bank="banks/a", label="x", page_size=50, page_token=token), token) == 77
    )
    for other in (pb.ListEntriesRequest(bank="banks/b", label="x"), pb.ListEntriesRequest(bank="banks/a")):
        with pytest.raises(InvalidField, match="page_token"):
            paging.after_of(other, token)
    for wrong in ("!", "AAAA", token[:-4]):
        with pytest.raises(InvalidField):
            paging.after_of(request, wrong)
    assert not paging.next_token(request, None)
    assert paging.after_of(request, "") == 0


def test_revision_tokens_are_of_one_catalogue() -> None:
    token = encode_revision("0123456789abcdef", 255)
    assert decode_revision("0123456789abcdef", token) == 255
    with pytest.raises(InvalidField, match="another catalogue"):
        decode_revision("fedcba9876543210", token)
    for wrong in ("7", "r1.0123456789ab.xyz", "r2.0123456789ab.1", "r1.0123456789ab.-1"):
        with pytest.raises(InvalidField):
            decode_revision("0123456789abcdef", wrong)


def bank() -> Bank:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Bank(
        key=1,
        id="a",
        kind=BankKind.BANNED,
        display_name="",
        policy=default_policy(BankKind.BANNED),
        enabled=True,
        labels={},
        keep_images=False,
        create_time=now,
        update_time=now,
    )


def test_a_mask_changes_what_it_names_and_nothing_else() -> None:
    said = types.Bank(enabled=False, display_name="new", policy=types.Policy(action=types.ACTION_REVIEW))
    patch = masks.bank_patch(bank(), said, FieldMask(paths=["enabled", "policy.action"]))
    assert patch.enabled is False
    assert patch.display_name is None
    assert patch.policy is not None
    assert patch.policy.action is Action.REVIEW
    assert patch.policy.thresholds == default_policy(BankKind.BANNED).thresholds


@pytest.mark.parametrize("paths", [[], ["kind"], ["name"], ["policy.action", "entry_count"]])
def test_a_mask_of_what_cannot_be_changed_is_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidField, match="update_mask"):
        masks.bank_patch(bank(), types.Bank(), FieldMask(paths=paths))


def test_expire_time_can_be_taken_away() -> None:
    patch = masks.entry_patch(types.Entry(), FieldMask(paths=["expire_time"]))
    assert patch.clear_expire_time
    with pytest.raises(InvalidField, match="ACTIVE or DISABLED"):
        masks.entry_patch(types.Entry(state=types.ENTRY_STATE_EXPIRED), FieldMask(paths=["state"]))


@pytest.mark.parametrize(
    ("signal", "threshold"),
    [
        (types.SIGNAL_TYPE_PDQ, 257),
        (types.SIGNAL_TYPE_PDQ, -1),
        (types.SIGNAL_TYPE_PDQ, float("nan")),
        (types.SIGNAL_TYPE_EMBEDDING, 1.01),
        (types.SIGNAL_TYPE_SEMANTIC, 0.5),
        (types.SIGNAL_TYPE_UNSPECIFIED, 0),
    ],
)
def test_thresholds_have_ranges(signal: types.SignalType.ValueType, threshold: float) -> None:
    with pytest.raises(InvalidField, match="thresholds"):
        convert.thresholds_of(
            "thresholds", BankKind.BANNED, [types.SignalThreshold(signal=signal, threshold=threshold)]
        )


def test_every_word_of_the_domain_has_one_of_the_api() -> None:
    tables = (
        (convert.KIND, types.BankKind),
        (convert.ACTION, types.Action),
        (convert.SIGNAL, types.SignalType),
        (convert.STATE, types.EntryState),
        (convert.VERDICT, types.Verdict),
        (convert.CODE, types.UndecidedCode),
    )
    for table, enum in tables:
        assert sorted(table.values()) == sorted(set(enum.values()) - {0})
    assert set(convert.SIGNAL) == set(SignalType)
