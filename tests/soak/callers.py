"""Who calls during a soak: an upload hook, trust and safety, a brand, an auditor, an administrator, and strangers."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.soak.material import Material
from tests.soak.tally import Tally

import imagewarden as iw

MOST_BANNED, MOST_LOGOS, MOST_LISTS = 40, 6, 3
_LIST = 500
_RECORDS = 300
_DOUBTS = 3
"""So many false positives put an entry under quarantine, unless its bank's policy says otherwise."""
_AWAY = 12
_FAR, _NEAR = 4.0, 31.0
"""Thresholds of PDQ: so many bits away is beyond the one, and within the other."""
_ONCE = iw.RetryPolicy(attempts=1)
_SECONDS = 60.0


class Keys:
    """Keys, made and revoked by the command line, as an administrator does."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def make(self, name: str, *options: str) -> str:
        """A new key's text."""
        return run("key", "create", name, *options, "--state-dir", str(self._state)).strip()

    def revoke(self, text: str) -> None:
        """Revoke a key."""
        run("key", "revoke", text.split("_")[1], "--state-dir", str(self._state))


def run(*arguments: str) -> str:
    """What `imagewarden ...` prints on its standard output. Raises CalledProcessError."""
    command = [sys.executable, "-m", "imagewarden", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


class Callers:
    """Threads, each of which does one kind of work again and again, at its own pace.

    Args:
        address: of the server.
        state: its directory.
        material: what is sent.
    """

    def __init__(self, address: str, state: Path, material: Material) -> None:
        self._address, self._state, self._material = address, state, material
        self._keys = Keys(state)
        self._stop = threading.Event()
        self._banned: deque[tuple[str, bytes]] = deque()
        self._logos: deque[str] = deque()
        self._lists: deque[str] = deque()
        self._numbers = itertools.count(1)
        self._threads: list[threading.Thread] = []

    def prepare(self, admin_key: str) -> None:
        """Banks, keys, and the first pictures."""
        self._admin = self._client(admin_key)
        for bank, kind in (("abuse", "banned"), ("brands", "brand"), ("cleared", "allowed")):
            self._admin.create_bank(bank, kind)
        self._checker = self._client(self._keys.make("hook", "--role", "checker"))
        self._moderator = self._client(self._keys.make("team", "--role", "moderator"))
        self._brand = self._client(self._keys.make("brand", "--role", "brand", "--bank", "brands"))
        self._auditor = self._client(self._keys.make("auditor", "--role", "auditor"))
        # The server reads keys twice a second.
        time.sleep(1.5)
        for _ in range(8):
            self._ban()
        self._register()
        self._moderator.add_image("cleared", self._material.picture_to_ban())
        self._prepare_trial()

    def start(self, tally: Tally) -> None:
        """Begin; what is done is counted from now on."""
        self._tally = tally
        work: list[tuple[float, Callable[[], None]]] = [
            (1.2, self._check_new),
            (0.5, self._check_banned),
            (0.7, self._check_copy),
            (4.0, self._check_bad),
            (9.0, self._check_batch),
            (11.0, self._check_stream),
            (25.0, self._check_thoroughly),
            (13.0, self._search),
            (7.0, self._ban_and_unban),
            (20.0, self._bring_list),
            (25.0, self._exchange_list),
            (15.0, self._report_and_release),
            (12.0, self._keep_entry),
            (30.0, self._register_and_remove),
            (6.0, self._list),
            (10.0, self._audit),
            (8.0, self._steer),
            (14.0, self._tune),
            (20.0, self._preview),
            (5.0, self._come_without_key),
            (45.0, self._come_with_revoked_key),
            (60.0, self._back_up),
        ]
        self._threads = [
            threading.Thread(target=self._again, args=one, name=one[1].__name__, daemon=True) for one in work
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each after what it does now."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2 * _SECONDS)
            if thread.is_alive():
                self._tally.failed(thread.name, "it did not come back")
        for client in (self._admin, self._checker, self._moderator, self._brand, self._auditor):
            client.close()

    def _client(self, key: str | None) -> iw.Client:
        return iw.Client(self._address, key=key, retry=_ONCE, timeout=_SECONDS)

    def _again(self, seconds: float, work: Callable[[], None]) -> None:
        kind = work.__name__.strip("_").replace("_", " ")
        while not self._stop.wait(seconds):
            with self._tally.timed(kind):
                work()

    # Checks

    def _check_new(self) -> None:
        _assert_decided(self._checker.check(self._material.new_picture()))

    def _check_banned(self) -> None:
        name, picture = self._any_banned()
        found = self._checker.check(picture)
        # It may have been unbanned meanwhile.
        if found.verdict is not iw.Verdict.MATCH and name in {one for one, _ in tuple(self._banned)}:
            raise AssertionError(f"{name} is banned, and its picture is {found.verdict}")

    def _check_copy(self) -> None:
        name, picture = self._any_banned()
        found = self._checker.check(self._material.copy(picture))
        if found.verdict is not iw.Verdict.MATCH and name in {one for one, _ in tuple(self._banned)}:
            raise AssertionError(f"{name} is banned, and a copy of its picture is {found.verdict}")

    def _check_bad(self) -> None:
        found = self._checker.check(self._material.bad_picture())
        if found.verdict is not iw.Verdict.UNDECIDED:
            raise AssertionError(f"a file that was cut short is {found.verdict}")

    def _check_batch(self) -> None:
        pictures = [*(picture for _, picture in tuple(self._banned)[:6]), self._material.new_picture(), b"no picture"]
        for found in self._checker.check_batch(pictures):
            if isinstance(found, iw.ImageWardenError):
                raise found

    def _check_stream(self) -> None:
        pictures = {str(place): picture for place, (_, picture) in enumerate(tuple(self._banned)[:10])}
        pictures["new"] = self._material.new_picture()
        answered = set()
        for name, found in self._checker.check_stream(pictures.items(), timeout=_SECONDS):
            if isinstance(found, iw.ImageWardenError):
                raise found
            answered.add(name)
        if answered != set(pictures):
            raise AssertionError(f"{set(pictures) - answered} of a stream got no answer")

    def _check_thoroughly(self) -> None:
        _assert_decided(self._checker.check(self._material.new_picture(), thorough=True, exhaustive=True))

    def _search(self) -> None:
        self._checker.search(self._material.new_picture(), k=5)

    # Changes

    def _ban(self) -> None:
        picture = self._material.picture_to_ban()
        made = self._moderator.add_image("abuse", picture, external_id=f"case-{next(self._numbers)}")
        self._banned.append((made.entry.name, picture))
        if self._checker.check(picture, at_least_revision=made.revision).verdict is not iw.Verdict.MATCH:
            raise AssertionError(f"{made.entry.name} was acknowledged, and is not in force")

    def _ban_and_unban(self) -> None:
        self._ban()
        if len(self._banned) > MOST_BANNED:
            # First out of what is expected, then out of the bank.
            name, _ = self._banned.popleft()
            self._moderator.delete_entry(name)

    def _bring_list(self) -> None:
        bank = f"list-{next(self._numbers)}"
        self._moderator.create_bank(bank, "banned")
        self._lists.append(bank)
        hashes = [iw.Hash(iw.SignalType.SHA256, one) for one in self._material.hashes(_LIST)]
        added = self._moderator.add_hashes(bank, hashes)
        if added.added != _LIST:
            raise AssertionError(f"{added.added} of {_LIST} hashes of a list were new")
        if len(self._lists) > MOST_LISTS:
            self._admin.delete_bank(self._lists.popleft(), force=True)

    def _exchange_list(self) -> None:
        """A list comes in, is given out as it came, comes again in part as what is gone, and goes with its bank."""
        bank = f"exchange-{next(self._numbers)}"
        self._moderator.create_bank(bank, "banned")
        hashes = {bytes.fromhex(one) for one in self._material.hashes(_RECORDS)}
        records = [
            iw.EntryRecord((iw.RecordHash(iw.SignalType.SHA256, one),), f"case-{one.hex()[:12]}", "an exchange")
            for one in sorted(hashes)
        ]
        self._bring(bank, records, added=_RECORDS)
        self._bring(bank, records, unchanged=_RECORDS)
        export = self._moderator.export_entries(bank, timeout=_SECONDS)
        given = {one.value for record in export for one in record.hashes}
        if given != hashes:
            raise AssertionError(f"a list of {len(hashes)} hashes came in, and {len(given & hashes)} of them went out")
        self._bring(bank, [replace(one, removed=True) for one in records[: _RECORDS // 2]], removed=_RECORDS // 2)
        deleted = self._admin.delete_bank(bank, force=True).deleted_entries
        if deleted != _RECORDS - _RECORDS // 2:
            raise AssertionError(f"{deleted} entries of a list were left")

    def _bring(self, bank: str, records: list[iw.EntryRecord], **expected: int) -> None:
        answers = list(self._moderator.import_entries(bank, enumerate(records, 1), timeout=_SECONDS))
        for what, count in expected.items():
            told = sum(getattr(one, what) for one in answers)
            if told != count or any(one.refused for one in answers):
                raise AssertionError(f"{told} records of a list were {what}, and {count} must be")

    def _ban_by_hash(self) -> tuple[str, bytes]:
        """A picture's file alone is banned: its entry, which no other caller knows, and the picture."""
        picture = self._material.new_picture()
        digest = hashlib.sha256(picture).hexdigest()
        (added,) = self._moderator.add_hashes("abuse", [iw.Hash(iw.SignalType.SHA256, digest)]).results
        self._expect(picture, iw.Action.BLOCK)
        return added.entry, picture

    def _expect(self, picture: bytes, action: iw.Action) -> None:
        found = self._checker.check(picture, banks=["abuse"])
        if found.action is not action:
            raise AssertionError(f"a check says {found.action} ({found.verdict}), and must say {action}")

    def _report_and_release(self) -> None:
        """Doubts put an entry under quarantine; a person lifts that, puts it there again, and deletes the entry."""
        entry, picture = self._ban_by_hash()
        for digest in self._material.hashes(_DOUBTS):
            reported = self._moderator.report_match(entry, digest, "false_positive").entry
        if reported.quarantine is None or reported.feedback.false_positives != _DOUBTS:
            raise AssertionError(f"{entry} has {reported.feedback}, and the quarantine {reported.quarantine}")
        self._expect(picture, iw.Action.REVIEW)
        self._moderator.update_entry(entry, release=True)
        self._expect(picture, iw.Action.BLOCK)
        self._moderator.update_entry(entry, quarantine="under appeal")
        self._expect(picture, iw.Action.REVIEW)
        self._moderator.delete_entry(entry)
        self._expect(picture, iw.Action.ALLOW)

    def _keep_entry(self) -> None:
        """An entry's facts are changed, it is disabled, enabled, and deleted."""
        entry, picture = self._ban_by_hash()
        kept = self._moderator.update_entry(entry, labels=["soak"], note="kept", metadata={"case": "7"}).entry
        if (kept.labels, kept.note) != (("soak",), "kept"):
            raise AssertionError(f"{entry} has the labels {kept.labels} and the note {kept.note!r}")
        for state, action in ((iw.EntryState.DISABLED, iw.Action.ALLOW), (iw.EntryState.ACTIVE, iw.Action.BLOCK)):
            self._moderator.update_entry(entry, state=state)
            self._expect(picture, action)
        self._moderator.delete_entry(entry)

    def _register(self) -> None:
        brand, svg = self._material.logo()
        self._logos.append(self._brand.register_logo("brands", brand, [svg], timeout=_SECONDS).entry.name)

    def _register_and_remove(self) -> None:
        self._register()
        if len(self._logos) > MOST_LOGOS:
            self._brand.delete_entry(self._logos.popleft())

    def _steer(self) -> None:
        self._moderator.update_bank("abuse", display_name=f"Banned, as of change {next(self._numbers)}")

    def _prepare_trial(self) -> None:
        """A bank of one PDQ hash, some bits away from a picture's."""
        self._trial = self._material.new_picture()
        self._moderator.create_bank("trial", "banned")
        bits = int(self._checker.check(self._trial, exhaustive=True).image.pdq, 16) ^ (2**_AWAY - 1)
        self._moderator.add_hashes("trial", [iw.Hash(iw.SignalType.PDQ, f"{bits:064x}")])

    def _tune(self) -> None:
        """A threshold and a ratio with which a picture is found, and with which it is not."""
        for distance, ratio, verdict in (
            (_FAR, 1.0, iw.Verdict.NO_MATCH),
            (_NEAR, 0.0, iw.Verdict.NO_MATCH),
            (_NEAR, 1.0, iw.Verdict.MATCH),
        ):
            thresholds = [iw.Threshold(iw.SignalType.PDQ, distance)]
            changed = self._moderator.update_bank("trial", thresholds=thresholds, enabled_ratio=ratio)
            found = self._checker.check(self._trial, banks=["trial"], at_least_revision=changed.revision)
            if found.verdict is not verdict:
                raise AssertionError(f"at {distance:g} bits and a ratio of {ratio:g} it is {found.verdict}")

    def _preview(self) -> None:
        """What wider thresholds would match, of all that there is, and of a hash that is not there."""
        wide = [iw.Threshold(iw.SignalType.PDQ, 60)]
        tried = self._moderator.preview_policy("abuse", wide, timeout=_SECONDS)
        if tried.matching < tried.matching_in_force:
            raise AssertionError(f"wider, {tried.matching} would match, and {tried.matching_in_force} do")
        (digest,) = self._material.hashes(1)
        alone = self._moderator.preview_policy("abuse", hash=f"sha256:{digest}", timeout=_SECONDS)
        if alone.matching:
            raise AssertionError(f"a hash of nothing would match {alone.matching} pictures")

    # Reading

    def _list(self) -> None:
        list(self._moderator.list_entries("abuse", page_size=10))
        list(self._brand.list_banks())

    def _audit(self) -> None:
        events = self._auditor.list_audit_events(newest_first=True, page_size=20)
        next(iter(events))

    def _back_up(self) -> None:
        run("backup", str(self._state.parent / "copies"), "--keep", "2", "--state-dir", str(self._state))

    # Strangers

    def _come_without_key(self) -> None:
        with self._client(None) as stranger:
            _assert_refused(stranger, self._material.new_picture())

    def _come_with_revoked_key(self) -> None:
        key = self._keys.make("for a minute", "--role", "checker", "--expires", "1d")
        time.sleep(1.5)
        with self._client(key) as caller:
            caller.check(self._any_banned()[1])
            self._keys.revoke(key)
            time.sleep(1.5)
            _assert_refused(caller, self._any_banned()[1])

    def _any_banned(self) -> tuple[str, bytes]:
        known = dict(tuple(self._banned))
        picture = self._material.any_of(list(known.values()))
        return next(name for name, one in known.items() if one == picture), picture


def _assert_decided(found: iw.CheckResult) -> None:
    if found.verdict is iw.Verdict.UNDECIDED:
        raise AssertionError(f"a picture is undecided: {found.undecided_reasons}")


def _assert_refused(caller: iw.Client, picture: bytes) -> None:
    try:
        caller.check(picture)
    except iw.Unauthenticated:
        return
    raise AssertionError("a caller without a good key got an answer")
