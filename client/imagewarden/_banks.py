"""The calls of BankService that are of banks, and that put entries into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from imagewarden import _convert as convert
from imagewarden import _enums as e
from imagewarden import _types as t
from imagewarden._calls import Call, Pages, any_needs_reading
from imagewarden._changes import SERVICE, bank_change, change, entry_change
from imagewarden._names import bank_name
from imagewarden._sources import ImageSource, needs_reading, read_image
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types


def create_bank(
    name: str,
    kind: e.BankKind | str,
    *,
    display_name: str = "",
    policy: t.Policy | None = None,
    labels: Mapping[str, str] | None = None,
    keep_images: bool = False,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.BankChange]:
    """Make a bank.

    Args:
        name: `x` or `banks/x`: 1 to 63 characters of a-z, 0-9 and '-', a letter first.
        kind: BANNED, BRAND or ALLOWED.
        display_name: a name for people.
        policy: action, thresholds and the rest; what is not given has the default of the kind.
        labels: labels of the owner's own, at most 64.
        keep_images: whether the pictures of the entries are kept.
        request_id: a UUID4 of an earlier try whose answer was lost; None: a new one.
        timeout: seconds, retries included; None: the client's.
    """
    return change(
        "CreateBank",
        lambda chosen: pb.CreateBankRequest(
            bank=types.Bank(
                name=bank_name(name),
                kind=convert.kind_number(kind),
                display_name=display_name,
                policy=convert.policy(policy or t.Policy()),
                labels=labels or {},
                keep_images=keep_images,
            ),
            request_id=chosen,
        ),
        pb.CreateBankResponse,
        bank_change,
        request_id,
        timeout,
    )


def get_bank(name: str, *, timeout: float | None = None) -> Call[t.Bank]:
    """One bank, by `x` or `banks/x`."""
    return Call(
        f"{SERVICE}GetBank",
        lambda: pb.GetBankRequest(name=bank_name(name)),
        pb.GetBankResponse,
        lambda answer: convert.bank(answer.bank),
        timeout,
    )


def list_banks(*, page_size: int = 0, timeout: float | None = None) -> Pages[t.Bank]:
    """All banks, by name; pages are fetched as they are needed, each within the timeout."""
    return Pages(
        lambda token: Call(
            f"{SERVICE}ListBanks",
            lambda: pb.ListBanksRequest(page_size=page_size, page_token=token),
            pb.ListBanksResponse,
            lambda answer: ([convert.bank(one) for one in answer.banks], answer.next_page_token),
            timeout,
        )
    )


def update_bank(
    name: str,
    *,
    display_name: str | None = None,
    action: e.Action | str | None = None,
    thresholds: Sequence[t.Threshold] | None = None,
    enabled_ratio: float | None = None,
    quarantine_false_positives: int | None = None,
    quarantine_flood: int | None = None,
    enabled: bool | None = None,
    labels: Mapping[str, str] | None = None,
    keep_images: bool | None = None,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.BankChange]:
    """Change a bank: what is not None is changed.

    Args:
        name: `x` or `banks/x`.
        display_name: a name for people.
        action: what a match asks for.
        thresholds: all of them: signals that are not named fall back to the default of the kind.
        enabled_ratio: of which part of all pictures the bank says something, 0 to 1.
        quarantine_false_positives: at how many more false positives than confirmations an entry is quarantined.
        quarantine_flood: from how many different pictures in ten minutes on it may be, for matching far more than it
            did. 0 of either: never.
        enabled: whether the bank is compared.
        labels: all of them.
        keep_images: whether the pictures of entries are kept from now on.
        request_id: a UUID4 of an earlier try whose answer was lost; None: a new one.
        timeout: seconds, retries included; None: the client's.
    """

    def build(chosen: str) -> pb.UpdateBankRequest:
        request = pb.UpdateBankRequest(bank=types.Bank(name=bank_name(name)), request_id=chosen)
        paths = request.update_mask.paths
        for path, value in (("display_name", display_name), ("enabled", enabled), ("keep_images", keep_images)):
            if value is not None:
                setattr(request.bank, path, value)
                paths.append(path)
        if labels is not None:
            request.bank.labels.update(labels)
            paths.append("labels")
        if action is not None:
            request.bank.policy.action = convert.action_number(action)
            paths.append("policy.action")
        if thresholds is not None:
            request.bank.policy.thresholds.extend(convert.policy(t.Policy(None, tuple(thresholds))).thresholds)
            paths.append("policy.thresholds")
        for path, number in (
            ("enabled_ratio", enabled_ratio),
            ("quarantine_false_positives", quarantine_false_positives),
            ("quarantine_flood", quarantine_flood),
        ):
            if number is not None:
                setattr(request.bank.policy, path, number)
                paths.append(f"policy.{path}")
        return request

    return change("UpdateBank", build, pb.UpdateBankResponse, bank_change, request_id, timeout)


def delete_bank(
    name: str, *, force: bool = False, request_id: str | None = None, timeout: float | None = None
) -> Call[t.Deletion]:
    """Delete a bank; one that has entries with `force` only."""
    return change(
        "DeleteBank",
        lambda chosen: pb.DeleteBankRequest(name=bank_name(name), force=force, request_id=chosen),
        pb.DeleteBankResponse,
        lambda answer: t.Deletion(answer.revision, answer.deleted_entries),
        request_id,
        timeout,
    )


def add_hashes(
    bank: str,
    hashes: Sequence[t.Hash | str],
    validate_only: bool = False,
    *,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.HashesAdded]:
    """Add 1 to 10,000 digests and PDQ hashes: all of them, or none.

    Args:
        bank: `x` or `banks/x`.
        hashes: `Hash` objects, or texts as `Hash.parse` reads them, such as `sha256:...`.
        validate_only: check all, and change nothing.
        request_id: a UUID4 of an earlier try whose answer was lost; None: a new one.
        timeout: seconds, retries included; None: the client's.
    """
    return change(
        "AddHashes",
        lambda chosen: pb.AddHashesRequest(
            bank=bank_name(bank, field="bank"),
            hashes=[convert.hash_to_add(one, f"hashes[{place}]") for place, one in enumerate(hashes)],
            request_id=chosen,
            validate_only=validate_only,
        ),
        pb.AddHashesResponse,
        convert.hashes_added,
        request_id,
        timeout,
    )


def add_image(
    bank: str,
    image: ImageSource,
    *,
    external_id: str = "",
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    source: str = "",
    expire_time: datetime | None = None,
    note: str = "",
    validate_only: bool = False,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.EntryChange]:
    """Ban or allow one picture, with all its signals.

    Args:
        bank: `x` or `banks/x`, of kind BANNED or ALLOWED.
        image: bytes, a path, or a file opened for reading bytes.
        external_id: the owner's own identifier.
        labels: labels of the owner's own.
        metadata: facts of the owner's own.
        source: where it comes from.
        expire_time: from when on it is no longer compared; without a zone it is this machine's time.
        note: what its keepers say of it to each other, at most 1,000 characters.
        validate_only: check and compute all, and change nothing.
        request_id: a UUID4 of an earlier try whose answer was lost; None: a new one.
        timeout: seconds, retries included; None: the client's.
    """
    return change(
        "AddImage",
        lambda chosen: pb.AddImageRequest(
            bank=bank_name(bank, field="bank"),
            image=read_image(image),
            entry=convert.said(external_id, labels, metadata, source, expire_time, note),
            request_id=chosen,
            validate_only=validate_only,
        ),
        pb.AddImageResponse,
        entry_change,
        request_id,
        timeout,
        blocking=needs_reading(image),
    )


def register_logo(
    bank: str,
    brand: str,
    images: Sequence[ImageSource],
    *,
    external_id: str = "",
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    source: str = "",
    expire_time: datetime | None = None,
    note: str = "",
    validate_only: bool = False,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.EntryChange]:
    """Register one logo of a brand from 1 to 16 pictures of it: SVG, PNG, JPEG or WebP, each filled by the logo.

    Args:
        bank: `x` or `banks/x`, of kind BRAND.
        brand: the brand's name.
        images: bytes, paths, or files opened for reading bytes; 32 MiB together at most.
        external_id: as of `add_image`, and so are the others.
        labels: see `add_image`.
        metadata: see `add_image`.
        source: see `add_image`.
        expire_time: see `add_image`.
        note: see `add_image`.
        validate_only: see `add_image`.
        request_id: see `add_image`.
        timeout: see `add_image`.
    """
    return change(
        "RegisterLogo",
        lambda chosen: pb.RegisterLogoRequest(
            bank=bank_name(bank, field="bank"),
            brand=brand,
            images=[read_image(image, field=f"images[{place}]") for place, image in enumerate(images)],
            entry=convert.said(external_id, labels, metadata, source, expire_time, note),
            request_id=chosen,
            validate_only=validate_only,
        ),
        pb.RegisterLogoResponse,
        entry_change,
        request_id,
        timeout,
        blocking=any_needs_reading(images),
    )
