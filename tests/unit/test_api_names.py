"""Names, page tokens, masks and revision tokens: what a request may say."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import convert, masks, names, paging, policies
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.patches import PolicyPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.revisions import decode_revision, encode_revision
from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Box,
    Entry,
    EntryState,
    Evidence,
    Match,
    SignalType,
    Threshold,
    Transform,
)


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
    assert patch.policy == PolicyPatch(action=Action.REVIEW)


@pytest.mark.parametrize("paths", [[], ["kind"], ["name"], ["policy.action", "entry_count"]])
def test_a_mask_of_what_cannot_be_changed_is_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidField, match="update_mask"):
        masks.bank_patch(bank(), types.Bank(), FieldMask(paths=paths))


def test_expire_time_can_be_taken_away() -> None:
    patch = masks.entry_patch(types.Entry(), FieldMask(paths=["expire_time"]))
    assert patch.clear_expire_time
    with pytest.raises(InvalidField, match="ACTIVE or DISABLED"):
        masks.entry_patch(types.Entry(state=types.ENTRY_STATE_EXPIRED), FieldMask(paths=["state"]))


BANNED, BRAND = BankKind.BANNED, BankKind.BRAND


@pytest.mark.parametrize(
    ("kind", "signal", "threshold", "said"),
    [
        (BANNED, types.SIGNAL_TYPE_PDQ, 257, "PDQ takes 0 to 256"),
        (BANNED, types.SIGNAL_TYPE_PDQ, -1, "PDQ takes 0 to 256"),
        (BANNED, types.SIGNAL_TYPE_PDQ, float("nan"), "PDQ takes 0 to 256"),
        (BANNED, types.SIGNAL_TYPE_SHA256, 1, "SHA256 takes 0 to 0"),
        (BANNED, types.SIGNAL_TYPE_EMBEDDING, 2.01, "EMBEDDING takes -2 to 2 in a bank of kind BANNED"),
        (BankKind.ALLOWED, types.SIGNAL_TYPE_EMBEDDING, 6, "EMBEDDING takes -2 to 2 in a bank of kind ALLOWED"),
        (BRAND, types.SIGNAL_TYPE_EMBEDDING, 101, "EMBEDDING takes -100 to 100 in a bank of kind BRAND"),
        (BRAND, types.SIGNAL_TYPE_EMBEDDING, float("nan"), "EMBEDDING takes -100 to 100"),
        (BANNED, types.SIGNAL_TYPE_LOCAL, -0.1, "LOCAL takes 0 to 1000"),
        (BANNED, types.SIGNAL_TYPE_LOCAL, 1_001, "LOCAL takes 0 to 1000"),
        (BANNED, types.SIGNAL_TYPE_COMBINED, 1.1, "COMBINED takes 0 to 1"),
        (BRAND, types.SIGNAL_TYPE_COMBINED, -0.1, "COMBINED takes 0 to 1"),
        (BANNED, types.SIGNAL_TYPE_SEMANTIC, 0.5, "send one of SHA256"),
        (BANNED, types.SIGNAL_TYPE_UNSPECIFIED, 0, "send one of SHA256"),
    ],
)
def test_thresholds_have_ranges(
    kind: BankKind, signal: types.SignalType.ValueType, threshold: float, said: str
) -> None:
    with pytest.raises(InvalidField, match=said) as caught:
        policies.thresholds_of("thresholds", kind, [types.SignalThreshold(signal=signal, threshold=threshold)])
    assert caught.value.metadata["field"].startswith("thresholds[0].")


@pytest.mark.parametrize("kind", BankKind)
def test_the_defaults_of_each_kind_are_in_range_and_go_to_a_message_and_back(kind: BankKind) -> None:
    own = dataclasses.replace(bank(), kind=kind, policy=default_policy(kind))
    said = policies.bank(own).policy.thresholds
    assert policies.thresholds_of("thresholds", kind, said) == own.policy.thresholds


@pytest.mark.parametrize(
    ("kind", "signal", "threshold"),
    [
        (BRAND, types.SIGNAL_TYPE_EMBEDDING, 12.5),
        (BRAND, types.SIGNAL_TYPE_EMBEDDING, -100),
        (BANNED, types.SIGNAL_TYPE_EMBEDDING, 2),
        (BankKind.ALLOWED, types.SIGNAL_TYPE_EMBEDDING, -2),
        (BANNED, types.SIGNAL_TYPE_LOCAL, 0),
        (BANNED, types.SIGNAL_TYPE_LOCAL, 1_000),
        (BANNED, types.SIGNAL_TYPE_COMBINED, 0),
    ],
)
def test_thresholds_at_the_ends_of_their_ranges_are_taken(
    kind: BankKind, signal: types.SignalType.ValueType, threshold: float
) -> None:
    message = types.SignalThreshold(signal=signal, threshold=threshold, disabled=True)
    (found,) = policies.thresholds_of("thresholds", kind, [message]).values()
    assert found == Threshold(threshold, disabled=True)


def test_a_threshold_is_said_once() -> None:
    twice = [types.SignalThreshold(signal=types.SIGNAL_TYPE_LOCAL, threshold=12)] * 2
    with pytest.raises(InvalidField, match="names LOCAL twice"):
        policies.thresholds_of("thresholds", BANNED, twice)


def test_a_match_says_its_evidence_and_how_the_picture_lies() -> None:
    entry = Entry(
        key=1,
        id="e",
        bank_id="a",
        external_id="",
        labels=(),
        metadata={},
        source="",
        brand="",
        state=EntryState.ACTIVE,
        expire_time=None,
        create_time=bank().create_time,
        update_time=bank().update_time,
    )
    found = Match(
        entry,
        bank(),
        SignalType.LOCAL,
        40.0,
        0.0,
        12.0,
        Action.BLOCK,
        region=Box(0.25, 0.5, 0.75, 1.0),
        frame=2,
        evidence=(Evidence(SignalType.EMBEDDING, 0.5, reached=False), Evidence(SignalType.LOCAL, 40.0, reached=True)),
        transform=Transform((0.5, 0.0, 0.25, 0.0, 0.5, 0.5), mirrored=True),
    )
    message = convert.match(found)
    assert (message.signal, message.score, message.threshold, message.frame) == (types.SIGNAL_TYPE_LOCAL, 40, 12, 2)
    assert [(one.signal, one.value, one.reached) for one in message.evidence] == [
        (types.SIGNAL_TYPE_EMBEDDING, 0.5, False),
        (types.SIGNAL_TYPE_LOCAL, 40, True),
    ]
    assert list(message.transform.coefficients) == [0.5, 0, 0.25, 0, 0.5, 0.5]
    assert message.transform.mirrored
    without = convert.match(dataclasses.replace(found, transform=None, region=None, evidence=()))
    assert not without.HasField("transform")
    assert not without.HasField("region")


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
