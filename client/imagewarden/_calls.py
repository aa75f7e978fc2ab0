"""Every method of the client, written once: its request, its answer, and how it is sent. The two clients only drive.

A `Call` is what one method sends: both stacks send it, retry it and turn its errors into exceptions in the same way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from imagewarden import _convert as convert
from imagewarden import _types as t
from imagewarden._errors import ImageWardenError
from imagewarden._statuses import from_status
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

R = TypeVar("R")

_MODERATION = "/imagewarden.v1.ModerationService/"
_BANKS = "/imagewarden.v1.BankService/"
STREAM = f"{_MODERATION}StreamCheckImages"


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call: where to, with what, and what its answer means.

    Attributes:
        request_id: of a change: sent with each try, so that it is made once at most.
    """

    path: str
    request: Any
    response: Any
    convert: Callable[[Any], R]
    request_id: str = ""


def bank_name(name: str) -> str:
    """`banks/x` of `x` or `banks/x`."""
    return name if name.startswith("banks/") else f"banks/{name}"


def check_request(
    image: bytes,
    *,
    banks: Sequence[str] = (),
    max_matches: int = 0,
    exhaustive: bool = False,
    on_undecided: t.Action | str | None = None,
    at_least_revision: str | None = None,
    context: Mapping[str, str] | None = None,
) -> pb.CheckImageRequest:
    """The request of a check."""
    return pb.CheckImageRequest(
        image=image,
        banks=[bank_name(name) for name in banks],
        max_matches=max_matches,
        exhaustive=exhaustive,
        on_undecided=types.ACTION_UNSPECIFIED if on_undecided is None else convert.action_number(on_undecided),
        at_least_revision=at_least_revision or "",
        context=context or {},
    )


def check(image: bytes, **options: Any) -> Call[t.CheckResult]:
    """CheckImage."""
    request = check_request(image, **options)
    return Call(f"{_MODERATION}CheckImage", request, pb.CheckImageResponse, convert.check_result)


def one_of(message: Any) -> t.CheckResult | ImageWardenError:
    """One item of a batch or a stream: a verdict, or the error that a single check would have raised."""
    if message.WhichOneof("result") == "response":
        return convert.check_result(message.response)
    return from_status(message.error, request_id="")


def check_batch(images: Sequence[bytes], **options: Any) -> Call[list[t.CheckResult | ImageWardenError]]:
    """BatchCheckImages."""
    request = pb.BatchCheckImagesRequest(requests=[check_request(image, **options) for image in images])
    return Call(
        f"{_MODERATION}BatchCheckImages",
        request,
        pb.BatchCheckImagesResponse,
        lambda answer: [one_of(one) for one in answer.results],
    )


def search(
    image: bytes,
    *,
    k: int = 10,
    metric: t.Metric | str = t.Metric.COSINE,
    banks: Sequence[str] = (),
    at_least_revision: str | None = None,
) -> Call[t.SearchResult]:
    """SearchSimilarImages."""
    request = pb.SearchSimilarImagesRequest(
        image=image,
        banks=[bank_name(name) for name in banks],
        k=k,
        metric=convert.metric_number(metric),
        at_least_revision=at_least_revision or "",
    )
    return Call(f"{_MODERATION}SearchSimilarImages", request, pb.SearchSimilarImagesResponse, convert.search_result)


def _change(name: str, request: Any, response: Any, meaning: Callable[[Any], R], request_id: str | None) -> Call[R]:
    """A change: it always carries a request_id, so that it can be tried again."""
    request.request_id = request_id or str(uuid.uuid4())
    return Call(f"{_BANKS}{name}", request, response, meaning, request.request_id)


def _bank_change(answer: Any) -> t.BankChange:
    return t.BankChange(convert.bank(answer.bank), answer.revision)


def _entry_change(answer: Any) -> t.EntryChange:
    return t.EntryChange(convert.entry(answer.entry), answer.revision, tuple(getattr(answer, "warnings", ())))


def create_bank(
    name: str,
    kind: t.BankKind | str,
    *,
    display_name: str = "",
    policy: t.Policy | None = None,
    labels: Mapping[str, str] | None = None,
    keep_images: bool = False,
    request_id: str | None = None,
) -> Call[t.BankChange]:
    """CreateBank."""
    bank = types.Bank(
        name=bank_name(name),
        kind=convert.kind_number(kind),
        display_name=display_name,
        policy=convert.policy(policy or t.Policy()),
        labels=labels or {},
        keep_images=keep_images,
    )
    return _change(
        "CreateBank", banks_pb.CreateBankRequest(bank=bank), banks_pb.CreateBankResponse, _bank_change, request_id
    )


def get_bank(name: str) -> Call[t.Bank]:
    """GetBank."""
    return Call(
        f"{_BANKS}GetBank",
        banks_pb.GetBankRequest(name=bank_name(name)),
        banks_pb.GetBankResponse,
        lambda answer: convert.bank(answer.bank),
    )


def list_banks(page_token: str = "", page_size: int = 0) -> Call[tuple[list[t.Bank], str]]:
    """A page of ListBanks: the banks and the next page's token."""
    return Call(
        f"{_BANKS}ListBanks",
        banks_pb.ListBanksRequest(page_size=page_size, page_token=page_token),
        banks_pb.ListBanksResponse,
        lambda answer: ([convert.bank(one) for one in answer.banks], answer.next_page_token),
    )


def update_bank(
    name: str,
    *,
    display_name: str | None = None,
    action: t.Action | str | None = None,
    thresholds: Sequence[t.Threshold] | None = None,
    enabled: bool | None = None,
    labels: Mapping[str, str] | None = None,
    keep_images: bool | None = None,
    request_id: str | None = None,
) -> Call[t.BankChange]:
    """UpdateBank: what is not None is changed."""
    bank = types.Bank(name=bank_name(name))
    request = banks_pb.UpdateBankRequest(bank=bank)
    for field, value in (("display_name", display_name), ("enabled", enabled), ("keep_images", keep_images)):
        if value is not None:
            setattr(request.bank, field, value)
            request.update_mask.paths.append(field)
    if labels is not None:
        request.bank.labels.update(labels)
        request.update_mask.paths.append("labels")
    if action is not None:
        request.bank.policy.action = convert.action_number(action)
        request.update_mask.paths.append("policy.action")
    if thresholds is not None:
        request.bank.policy.thresholds.extend(convert.policy(t.Policy(None, tuple(thresholds))).thresholds)
        request.update_mask.paths.append("policy.thresholds")
    return _change("UpdateBank", request, banks_pb.UpdateBankResponse, _bank_change, request_id)


def delete_bank(name: str, *, force: bool = False, request_id: str | None = None) -> Call[t.Deletion]:
    """DeleteBank."""
    return _change(
        "DeleteBank",
        banks_pb.DeleteBankRequest(name=bank_name(name), force=force),
        banks_pb.DeleteBankResponse,
        lambda answer: t.Deletion(answer.revision, answer.deleted_entries),
        request_id,
    )


def add_hashes(
    bank: str,
    hashes: Sequence[t.Hash | str],
    *,
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[t.HashesAdded]:
    """AddHashes."""
    request = banks_pb.AddHashesRequest(
        bank=bank_name(bank), hashes=[convert.hash_to_add(one) for one in hashes], validate_only=validate_only
    )
    return _change("AddHashes", request, banks_pb.AddHashesResponse, convert.hashes_added, request_id)


def add_image(
    bank: str,
    image: bytes,
    *,
    external_id: str = "",
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    source: str = "",
    expire_time: datetime | None = None,
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[t.EntryChange]:
    """AddImage."""
    request = banks_pb.AddImageRequest(
        bank=bank_name(bank),
        image=image,
        entry=convert.said(
            external_id=external_id, labels=list(labels), metadata=metadata, source=source, expire_time=expire_time
        ),
        validate_only=validate_only,
    )
    return _change("AddImage", request, banks_pb.AddImageResponse, _entry_change, request_id)


def register_logo(
    bank: str,
    brand: str,
    images: Sequence[bytes],
    *,
    external_id: str = "",
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    source: str = "",
    expire_time: datetime | None = None,
    validate_only: bool = False,
    request_id: str | None = None,
) -> Call[t.EntryChange]:
    """RegisterLogo."""
    request = banks_pb.RegisterLogoRequest(
        bank=bank_name(bank),
        brand=brand,
        images=images,
        entry=convert.said(
            external_id=external_id, labels=list(labels), metadata=metadata, source=source, expire_time=expire_time
        ),
        validate_only=validate_only,
    )
    return _change("RegisterLogo", request, banks_pb.RegisterLogoResponse, _entry_change, request_id)


def get_entry(name: str) -> Call[t.Entry]:
    """GetEntry."""
    return Call(
        f"{_BANKS}GetEntry",
        banks_pb.GetEntryRequest(name=name),
        banks_pb.GetEntryResponse,
        lambda answer: convert.entry(answer.entry),
    )


def list_entries(
    bank: str,
    page_token: str = "",
    *,
    page_size: int = 0,
    external_id: str = "",
    label: str = "",
    state: t.EntryState | str | None = None,
) -> Call[tuple[list[t.Entry], str]]:
    """A page of ListEntries: the entries and the next page's token."""
    request = banks_pb.ListEntriesRequest(
        bank=bank_name(bank),
        page_size=page_size,
        page_token=page_token,
        external_id=external_id,
        label=label,
        state=types.ENTRY_STATE_UNSPECIFIED if state is None else convert.state_number(state),
    )
    return Call(
        f"{_BANKS}ListEntries",
        request,
        banks_pb.ListEntriesResponse,
        lambda answer: ([convert.entry(one) for one in answer.entries], answer.next_page_token),
    )


def update_entry(
    name: str,
    *,
    external_id: str | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    source: str | None = None,
    brand: str | None = None,
    state: t.EntryState | str | None = None,
    expire_time: datetime | None = None,
    never_expires: bool = False,
    request_id: str | None = None,
) -> Call[t.EntryChange]:
    """UpdateEntry: what is not None is changed; `never_expires` takes the time away."""
    request = banks_pb.UpdateEntryRequest(entry=types.Entry(name=name))
    paths = request.update_mask.paths
    for field, value in (("external_id", external_id), ("source", source), ("brand", brand)):
        if value is not None:
            setattr(request.entry, field, value)
            paths.append(field)
    if labels is not None:
        request.entry.labels.extend(labels)
        paths.append("labels")
    if metadata is not None:
        request.entry.metadata.update(metadata)
        paths.append("metadata")
    if state is not None:
        request.entry.state = convert.state_number(state)
        paths.append("state")
    if never_expires or expire_time is not None:
        stamp = None if never_expires else convert.timestamp(expire_time)
        if stamp is not None:
            request.entry.expire_time.CopyFrom(stamp)
        paths.append("expire_time")
    return _change("UpdateEntry", request, banks_pb.UpdateEntryResponse, _entry_change, request_id)


def delete_entry(name: str, *, request_id: str | None = None) -> Call[t.Deletion]:
    """DeleteEntry."""
    return _change(
        "DeleteEntry",
        banks_pb.DeleteEntryRequest(name=name),
        banks_pb.DeleteEntryResponse,
        lambda answer: t.Deletion(answer.revision),
        request_id,
    )
