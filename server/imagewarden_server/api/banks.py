"""BankService: what trust-and-safety teams and brand teams call."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from typing import Any

from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import bank_service_pb2_grpc as pb_grpc
from imagewarden.v1 import types_pb2 as types
from imagewarden_server import access, logs
from imagewarden_server.api import convert, lists, names, paging, policies, preview
from imagewarden_server.api.masks import bank_patch, entry_patch
from imagewarden_server.api.repeats import once
from imagewarden_server.matching.administer import Administrator
from imagewarden_server.matching.enroll import Enrolled, Enroller
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.importer import Importer
from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.preview import Previewer
from imagewarden_server.matching.revisions import encode_revision

_PREVIEW_SECONDS = 30.0
"""A preview takes no longer, whatever time its call has."""


class BankServicer(pb_grpc.BankServiceServicer):
    """Keeps banks and entries."""

    def __init__(
        self,
        administrator: Administrator,
        enroller: Enroller,
        importer: Importer,
        previewer: Previewer,
        catalog_id: str,
    ) -> None:
        self._administrator = administrator
        self._enroller = enroller
        self._importer = importer
        self._previewer = previewer
        self._catalog_id = catalog_id

    def _token(self, revision: int) -> str:
        token = encode_revision(self._catalog_id, revision)
        logs.annotate(revision=token)
        return token

    async def CreateBank(self, request: pb.CreateBankRequest, context: Any) -> pb.CreateBankResponse:  # noqa: N802
        """Make a bank."""
        del context
        said = request.bank
        kind = convert.kind("bank.kind", said.kind)
        written = await self._administrator.create_bank(
            names.bank_id("bank.name", said.name),
            kind,
            policy=policies.policy_of("bank.policy", kind, said.policy),
            display_name=names.text("bank.display_name", said.display_name),
            labels=names.pairs("bank.labels", said.labels),
            keep_images=said.keep_images,
            once=once(request),
        )
        return pb.CreateBankResponse(bank=policies.bank(written.value), revision=self._token(written.revision))

    async def GetBank(self, request: pb.GetBankRequest, context: Any) -> pb.GetBankResponse:  # noqa: N802
        """Answer one bank."""
        del context
        return pb.GetBankResponse(
            bank=policies.bank(await self._administrator.get_bank(names.bank_id("name", request.name)))
        )

    async def ListBanks(self, request: pb.ListBanksRequest, context: Any) -> pb.ListBanksResponse:  # noqa: N802
        """List the banks."""
        del context
        page = await self._administrator.list_banks(
            paging.after_of(request, request.page_token),
            names.page_size(request.page_size),
            access.current().caller.banks,
        )
        return pb.ListBanksResponse(
            banks=[policies.bank(bank) for bank in page.items],
            next_page_token=paging.next_token(request, page.next_after),
        )

    async def UpdateBank(self, request: pb.UpdateBankRequest, context: Any) -> pb.UpdateBankResponse:  # noqa: N802
        """Change a bank."""
        del context
        bank_id = names.bank_id("bank.name", request.bank.name)
        current = await self._administrator.get_bank(bank_id)
        access.current().permit_kind(bank_id, current.kind)
        patch = bank_patch(current, request.bank, request.update_mask)
        access.current().permit_policy(bank_id, current.policy, patch.policy)
        written = await self._administrator.update_bank(current, patch, once=once(request))
        return pb.UpdateBankResponse(bank=policies.bank(written.value), revision=self._token(written.revision))

    async def DeleteBank(self, request: pb.DeleteBankRequest, context: Any) -> pb.DeleteBankResponse:  # noqa: N802
        """Delete a bank."""
        del context
        written = await self._administrator.delete_bank(
            names.bank_id("name", request.name), force=request.force, once=once(request)
        )
        return pb.DeleteBankResponse(revision=self._token(written.revision), deleted_entries=written.value)

    async def AddHashes(self, request: pb.AddHashesRequest, context: Any) -> pb.AddHashesResponse:  # noqa: N802
        """Add digests and PDQ hashes."""
        del context
        bank_id = names.bank_id("bank", request.bank)
        entries = [convert.hash_entry(f"hashes[{place}]", said) for place, said in enumerate(request.hashes)]
        written = await self._enroller.add_hashes(
            bank_id, entries, once=once(request), validate_only=request.validate_only
        )
        logs.annotate(bank=bank_id, hashes=len(entries), validate_only=request.validate_only)
        if written is None:
            return pb.AddHashesResponse()
        results = [
            pb.AddedHash(entry=f"banks/{bank_id}/entries/{one.entry_id}", duplicate=one.duplicate)
            for one in written.value
        ]
        duplicates = sum(one.duplicate for one in written.value)
        return pb.AddHashesResponse(
            results=results,
            added=len(results) - duplicates,
            duplicates=duplicates,
            revision=self._token(written.revision),
        )

    async def AddImage(self, request: pb.AddImageRequest, context: Any) -> pb.AddImageResponse:  # noqa: N802
        """Add one picture."""
        enrolled = await self._enroller.add_image(
            names.bank_id("bank", request.bank),
            request.image,
            convert.said(request.entry),
            deadline=_deadline(context),
            once=once(request),
            validate_only=request.validate_only,
        )
        entry, revision = self._enrolled(enrolled, request.entry)
        return pb.AddImageResponse(entry=entry, revision=revision, warnings=enrolled.warnings)

    async def RegisterLogo(self, request: pb.RegisterLogoRequest, context: Any) -> pb.RegisterLogoResponse:  # noqa: N802
        """Register one logo."""
        enrolled = await self._enroller.register_logo(
            names.bank_id("bank", request.bank),
            list(request.images),
            convert.said(request.entry, brand=request.brand),
            deadline=_deadline(context),
            once=once(request),
            validate_only=request.validate_only,
        )
        entry, revision = self._enrolled(enrolled, request.entry)
        return pb.RegisterLogoResponse(entry=entry, revision=revision, warnings=enrolled.warnings)

    def _enrolled(self, enrolled: Enrolled, said: types.Entry) -> tuple[types.Entry, str]:
        if enrolled.written is None:
            preview = types.Entry()
            preview.CopyFrom(said)
            preview.ClearField("signals")
            preview.signals.extend(convert.signal(signal) for signal in enrolled.signals)
            return preview, ""
        logs.annotate(entry=enrolled.written.value.name)
        return convert.entry(enrolled.written.value), self._token(enrolled.written.revision)

    async def GetEntry(self, request: pb.GetEntryRequest, context: Any) -> pb.GetEntryResponse:  # noqa: N802
        """Answer one entry."""
        del context
        return pb.GetEntryResponse(
            entry=convert.entry(await self._administrator.get_entry(*names.entry_ids("name", request.name)))
        )

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> pb.ListEntriesResponse:  # noqa: N802
        """List the entries of a bank."""
        del context
        page = await self._administrator.list_entries(
            names.bank_id("bank", request.bank),
            after=paging.after_of(request, request.page_token),
            limit=names.page_size(request.page_size),
            only=EntryFilter(
                external_id=names.text("external_id", request.external_id),
                label=names.text("label", request.label),
                state=convert.STATE_OF.get(request.state),
                quarantined=request.quarantined,
                note=names.text("note", request.note, names.MAX_NOTE),
                source=names.text("source", request.source),
            ),
        )
        return pb.ListEntriesResponse(
            entries=[convert.entry(entry) for entry in page.items],
            next_page_token=paging.next_token(request, page.next_after),
        )

    async def UpdateEntry(self, request: pb.UpdateEntryRequest, context: Any) -> pb.UpdateEntryResponse:  # noqa: N802
        """Change an entry."""
        del context
        bank_id, entry_id = names.entry_ids("entry.name", request.entry.name)
        access.current().permit_kind(bank_id, (await self._administrator.get_bank(bank_id)).kind)
        patch = entry_patch(request.entry, request.update_mask)
        written = await self._administrator.update_entry(bank_id, entry_id, patch, once=once(request))
        return pb.UpdateEntryResponse(entry=convert.entry(written.value), revision=self._token(written.revision))

    async def DeleteEntry(self, request: pb.DeleteEntryRequest, context: Any) -> pb.DeleteEntryResponse:  # noqa: N802
        """Delete an entry."""
        del context
        bank_id, entry_id = names.entry_ids("name", request.name)
        access.current().permit_kind(bank_id, (await self._administrator.get_bank(bank_id)).kind)
        revision = await self._administrator.delete_entry(bank_id, entry_id, once=once(request))
        return pb.DeleteEntryResponse(revision=self._token(revision))

    async def ImportEntries(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ImportEntriesRequest], context: Any
    ) -> AsyncIterator[pb.ImportEntriesResponse]:
        """Bring a list into a bank."""
        del context
        bank, validate_only, last, count = None, False, 0, 0
        async for request in request_iterator:
            if bank is None:
                bank = await self._importer.bank(names.bank_id("bank", request.bank))
                access.current().permit_kind(bank.id, bank.kind)
                validate_only = request.validate_only
            elif request.bank not in {"", bank.name}:
                raise InvalidField("bank", f"is {request.bank[:80]!r}; this stream is of {bank.name}: open another")
            access.current().spend()
            last = lists.next_number(request.records, last)
            kind, records = bank.kind, request.records
            written = await self._importer.take(
                bank,
                len(records),
                lambda kind=kind, records=records: lists.read(kind, records),  # type: ignore[misc]  # defaults bind them
                validate_only=validate_only,
            )
            count += len(records)
            del request, records  # the next message may be long in coming
            logs.annotate(bank=bank.id, records=count, validate_only=validate_only)
            revision = "" if validate_only else self._token(written.revision)
            yield lists.answer(last, written.value, revision)

    async def ExportEntries(  # noqa: N802
        self, request: pb.ExportEntriesRequest, context: Any
    ) -> AsyncIterator[pb.ExportEntriesResponse]:
        """Answer all entries of a bank."""
        del context
        bank_id = names.bank_id("bank", request.bank)
        count = 0
        async for answer in self._importer.give(
            bank_id, lambda page: lists.written(page, encode_revision(self._catalog_id, page.revision))
        ):
            access.current().go_on()
            count += len(answer.records)
            logs.annotate(bank=bank_id, records=count)
            yield answer

    async def PreviewPolicy(  # noqa: N802 -- the API's name
        self, request: pb.PreviewPolicyRequest, context: Any
    ) -> pb.PreviewPolicyResponse:
        """Say what a policy would match among the pictures that were checked lately."""
        bank = await self._previewer.bank(names.bank_id("bank", request.bank))
        tried = preview.tried(
            bank,
            request,
            # Who may see some banks only is told of no picture that was checked without this one.
            everything=access.current().caller.banks.all,
            deadline=min(_deadline(context), time.monotonic() + _PREVIEW_SECONDS),
        )
        found = await self._previewer.preview(bank, tried)
        logs.annotate(bank=bank.id, pictures=found.pictures, compared=found.compared)
        return preview.response(found)


def _deadline(context: Any) -> float:
    """When a call has to be over, in monotonic seconds; a change that states no deadline has none."""
    remaining = context.time_remaining()
    return math.inf if remaining is None else time.monotonic() + remaining
