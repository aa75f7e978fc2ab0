"""Hash exchanges on loopback, over HTTP, each with its own wire format, its own pages and its own credentials.

What is changed with `change` gets the time it is given; what is asked for is answered as the exchange would then.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr

USER, PASSWORD = "acme-safety", "correct-horse-battery"
FUNCTION_KEY, SUBSCRIPTION_KEY = "function-key-5b7e", "subscription-key-91c2"
ACCESS_TOKEN = "1234567890|AbCdEfGhIjKlMnOpQrStUv"  # noqa: S105 -- of this server alone

Answer = tuple[int, str, bytes]


@dataclasses.dataclass
class Asked:
    """A request, as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Exchange(ABC):
    """One exchange.

    Attributes:
        asked: every request that came in.
        delay: seconds that each answer takes.
        page_size: at most so many records a page.
    """

    def __init__(self, page_size: int = 50) -> None:
        self.url = ""
        self.page_size = page_size
        self.delay = 0.0
        self.asked: list[Asked] = []
        self._failures: list[int] = []
        self._lock = threading.Lock()

    def fail(self, status: int, times: int) -> None:
        """Answer the next requests with a status, and then as before."""
        with self._lock:
            self._failures = [status] * times

    def heal(self) -> None:
        """Answer as before from now on."""
        self.fail(0, 0)

    def answer(self, asked: Asked) -> Answer:
        time.sleep(self.delay)
        with self._lock:
            self.asked.append(asked)
            if self._failures:
                return self._failures.pop(0), "text/plain", b"not now"
            return self.spoken(asked)

    @abstractmethod
    def spoken(self, asked: Asked) -> Answer: ...


def as_json(value: Any, status: int = 200) -> Answer:
    return status, "application/json", json.dumps(value).encode()


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Ncmec(Exchange):
    """NCMEC's hash sharing API, version 2: XML, a user and a password, ranges of time, pages in no order of time."""

    NAMESPACE: ClassVar[str] = "https://hashsharing.ncmec.org/hashsharing/v2"

    def __init__(self, page_size: int = 50) -> None:
        super().__init__(page_size)
        self.entries: dict[str, dict[str, Any]] = {}

    def change(self, entry: str, when: int, **said: Any) -> None:
        """Add or change an entry; `deleted=True` leaves its tombstone."""
        with self._lock:
            old = {"member": 42, "kind": "image", "deleted": False, "classification": "A1", "prints": {}}
            old["number"] = len(self.entries) + 1
            self.entries[entry] = old | self.entries.get(entry, {}) | said | {"when": when}

    def spoken(self, asked: Asked) -> Answer:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("authorization") != wanted:
            return 401, "text/plain", b"who are you?"
        if asked.path != "/v2/entries":
            return 404, "text/plain", b"no such place"
        begin, end = (self._time(asked.query[key]) for key in ("from", "to"))
        # By number and not by time; a page begins at a number, whatever changed meanwhile.
        start = int(asked.query.get("start", 0))
        found = [(entry, one) for entry, one in self.entries.items() if begin <= one["when"] < end]
        found = sorted((pair for pair in found if pair[1]["number"] >= start), key=lambda pair: pair[1]["number"])
        page = found[: self.page_size]
        parts = [f'<?xml version="1.0" encoding="UTF-8"?>\n<queryResult xmlns="{self.NAMESPACE}">']
        for kind in ("image", "video"):
            of_kind = [(entry, one) for entry, one in page if one["kind"] == kind]
            latest = stamp(max((one["when"] for _, one in of_kind), default=begin))
            parts.append(f'<{kind}s count="{len(of_kind)}" maxTimestamp="{latest}">')
            parts += [self._entry(entry, one) for entry, one in of_kind]
            parts.append(f"</{kind}s>")
        if self.page_size < len(found):
            rest = {key: asked.query[key] for key in ("from", "to")}
            numbers = [one["number"] for _, one in found]
            rest |= {"start": str(numbers[self.page_size]), "size": str(self.page_size), "max": str(numbers[-1])}
            parts.append(f"<paging><next>{escape('/v2/entries?' + urlencode(rest))}</next></paging>")
        parts.append("</queryResult>")
        return 200, "application/xml", "".join(parts).encode()

    @staticmethod
    def _time(text: str) -> float:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()

    @staticmethod
    def _entry(entry: str, one: dict[str, Any]) -> str:
        tag = f"deleted{one['kind'].title()}" if one["deleted"] else one["kind"]
        parts = [f"<{tag}><member id={quoteattr(str(one['member']))}>Acme</member>"]
        parts.append(f"<timestamp>{stamp(one['when'])}</timestamp><id>{escape(entry)}</id>")
        if not one["deleted"]:
            prints = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in one["prints"].items())
            parts.append(f"<classification>{one['classification']}</classification>")
            parts.append(f"<fingerprints>{prints}</fingerprints>")
        return "".join([*parts, f"</{tag}>"])


class StopNcii(Exchange):
    """StopNCII.org's FetchHashes: JSON, two keys in headers, a token a page.

    As the package's own tests have it, the first page's `nextSetTimestamp` is later than records of the pages after it.
    """

    def __init__(self, page_size: int = 50) -> None:
        super().__init__(page_size)
        self.records: dict[str, dict[str, Any]] = {}

    def change(self, value: str, when: int, status: str = "Active", **said: Any) -> None:
        """Add or change a hash; the statuses Withdrawn and Deleted take it back."""
        with self._lock:
            old = {"signalType": "ImagePDQ", "caseNumbers": {"27664732": status}, "CSPFeedbacks": []}
            record = old | self.records.get(value, {}) | said
            self.records[value] = record | {"hashValue": value, "hashStatus": status, "lastModtimestamp": when}

    def spoken(self, asked: Asked) -> Answer:
        keys = (asked.headers.get("x-functions-key"), asked.headers.get("ocp-apim-subscription-key"))
        if keys != (FUNCTION_KEY, SUBSCRIPTION_KEY):
            return as_json({"statusCode": 401, "message": "Access denied due to invalid subscription key."}, 401)
        if asked.path != "/FetchHashes":
            return as_json({"statusCode": 404, "message": "Resource not found"}, 404)
        since = int(asked.query["startTimestamp"])
        found = [one for one in self.records.values() if one["lastModtimestamp"] >= since]
        found.sort(key=lambda one: (one["lastModtimestamp"], one["hashValue"]))
        start = int(base64.b64decode(asked.query.get("nextPageToken", "")) or b"0")
        size = min(self.page_size, int(asked.query["pageSize"]))
        page = found[start : start + size]
        more = start + size < len(found)
        return as_json(
            {
                "count": len(page),
                "nextSetTimestamp": max((one["lastModtimestamp"] for one in found), default=since),
                "nextPageToken": base64.b64encode(str(start + size).encode()).decode() if more else None,
                "hasMoreRecords": more,
                "hashRecords": page,
            }
        )


class Tat(Exchange):
    """Tech Against Terrorism's hash list: JSON, a token for a password, a checkpoint `time,id` a page."""

    TOKEN: ClassVar[str] = "eyJ0b2tlbiI6MX0"  # noqa: S105 -- the same

    def __init__(self, page_size: int = 50) -> None:
        super().__init__(page_size)
        self.entries: dict[int, dict[str, Any]] = {}

    def change(self, number: int, when: float, **said: Any) -> None:
        """Add or change an entry; `deleted=True` takes it back."""
        with self._lock:
            old = {"algorithm": "PDQ", "ideology": "far-right", "file_type": "jpg", "deleted": False}
            old |= {"created_on": "2024-01-10T15:37:20Z", "id": number}
            self.entries[number] = old | self.entries.get(number, {}) | said | {"updated_on": when}

    def spoken(self, asked: Asked) -> Answer:
        if (asked.method, asked.path) == ("POST", "/token-auth/tcap/"):
            form = {key: values[0] for key, values in parse_qs(asked.body.decode()).items()}
            if (form.get("username"), form.get("password")) != (USER, PASSWORD):
                return as_json({"non_field_errors": ["Unable to log in with provided credentials."]}, 400)
            return as_json({"user": {"username": USER}, "token": self.TOKEN})
        if asked.headers.get("authorization") != f"Bearer {self.TOKEN}":
            return as_json({"detail": "Authentication credentials were not provided."}, 401)
        if asked.path != "/api/hash-list/v2/all":
            return as_json({"detail": "Not found."}, 404)
        found = sorted(self.entries.values(), key=lambda one: (one["updated_on"], one["id"]))
        after = asked.query.get("after", "")
        if after:
            when, _, number = after.partition(",")
            found = [one for one in found if (one["updated_on"], one["id"]) > (float(when), int(number))]
        start = int(asked.query.get("offset", 0))
        page = found[start : start + self.page_size]
        end = start + self.page_size
        more = f"{self.url}{asked.path}?{urlencode({'limit': self.page_size, 'offset': end})}"
        last = page[-1] if page else None
        return as_json(
            {
                "count": len(found),
                "next": more if end < len(found) else None,
                "previous": None,
                "checkpoint": f"{last['updated_on']},{last['id']}" if last else after,
                "results": page,
            }
        )


class FbThreatExchange(Exchange):
    """Meta's Graph API: the updates of a privacy group, the access token in the address, of the next page, too."""

    def __init__(self, page_size: int = 50) -> None:
        super().__init__(page_size)
        self.updates: dict[str, dict[str, Any]] = {}

    def change(
        self, indicator: str, when: int, type_: str = "HASH_PDQ", status: str = "MALICIOUS", **said: Any
    ) -> None:
        """Add or change an indicator; `should_delete=True` takes it back."""
        descriptor = {"id": "77", "owner": {"id": "99"}, "status": status, "tags": ["media_type_photo"]}
        number = zlib.crc32(f"{type_} {indicator}".encode())
        update = {"id": str(number), "indicator": indicator, "type": type_, "should_delete": False}
        with self._lock:
            update |= {"descriptors": {"data": [descriptor]}} | said | {"last_updated": when}
            if update["should_delete"]:
                del update["descriptors"]
            self.updates[indicator] = update

    def spoken(self, asked: Asked) -> Answer:
        if asked.query.get("access_token") != ACCESS_TOKEN:
            error = {"message": "Invalid OAuth access token.", "type": "OAuthException", "code": 190}
            return as_json({"error": error}, 400)
        if asked.path != "/550/threat_updates/":
            return as_json({"error": {"message": "Unsupported get request.", "code": 100}}, 404)
        since = int(asked.query.get("start_time", 0))
        found = [one for one in self.updates.values() if one["last_updated"] >= since]
        found.sort(key=lambda one: (one["last_updated"], one["id"]))
        start = int(asked.query.get("after", 0))
        size = min(self.page_size, int(asked.query["limit"]))
        answer: dict[str, Any] = {"data": found[start : start + size]}
        if start + size < len(found):
            rest = urlencode(asked.query | {"after": str(start + size)})
            answer["paging"] = {"next": f"{self.url}{asked.path}?{rest}"}
        return as_json(answer)


AnyExchange = TypeVar("AnyExchange", bound=Exchange)


@contextmanager
def served(exchange: AnyExchange) -> Iterator[AnyExchange]:
    """An exchange on a port of its own; `url` says which."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            status, kind, data = exchange.answer(Asked(self.command, parts.path, query, headers, body))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply  # noqa: N815 -- the library's names

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that was killed breaks off."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    exchange.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield exchange
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
