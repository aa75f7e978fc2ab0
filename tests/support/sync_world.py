"""Four exchanges, each with a bank of its own of a real server, and `imagewarden sync` between."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imagewarden import BankKind, Client
from tests.support.exchanges import Exchange, FbThreatExchange, Ncmec, StopNcii, Tat, served
from tests.support.processes import Server
from tests.support.syncing import Syncing, digits, entries, hashes

THEN = int(time.time()) - 30 * 86_400


@dataclasses.dataclass
class World:
    """All exchanges, each with a bank of its own, and what runs between."""

    ncmec: Ncmec
    stopncii: StopNcii
    tat: Tat
    fb: FbThreatExchange
    sync: Syncing
    client: Client

    @property
    def exchanges(self) -> dict[str, Exchange]:
        return {"ncmec": self.ncmec, "stopncii": self.stopncii, "tat": self.tat, "fb": self.fb}

    def bank(self, name: str) -> dict[str, set[tuple[str, str]]]:
        return hashes(entries(self.client, name))


@contextmanager
def start_world(server: Server, folder: Path) -> Iterator[World]:
    """Empty exchanges and banks."""
    with ExitStack() as stack:
        ncmec, stopncii, tat, fb = Ncmec(), StopNcii(), Tat(), FbThreatExchange()
        for exchange in (ncmec, stopncii, tat, fb):
            stack.enter_context(served(exchange))
        client = stack.enter_context(Client(server.address))
        found = World(ncmec, stopncii, tat, fb, Syncing(server.address, folder), client)
        found.sync.configure(found.exchanges)
        for name in found.exchanges:
            client.create_bank(name, BankKind.BANNED)
        yield found
        for name in found.exchanges:
            client.delete_bank(name, force=True)


def fill(world: World, count: int) -> dict[str, dict[str, set[tuple[str, str]]]]:
    """Give each exchange as many hashes of pictures, and some of what is none; what each bank must have then."""
    expected: dict[str, dict[str, set[tuple[str, str]]]] = {name: {} for name in world.exchanges}
    for number in range(count):
        prints = {"md5": digits((number, "md5"), 32), "sha1": digits((number, "sha1"), 40), "pdna": "AAAA"}
        if number % 2:
            prints["pdq"] = digits((number, "pdq"))
        # Half of them of the same second: so many that one second has several pages.
        when = THEN + (0 if number % 2 else number * 60)
        world.ncmec.change(f"n{number}", when, prints=prints)
        compared = {(kind, text) for kind, text in prints.items() if kind != "pdna"}
        expected["ncmec"][f"42-n{number}"] = compared
        one = digits((number, "stopncii"))
        world.stopncii.change(one, THEN + number)
        expected["stopncii"][one] = {("pdq", one)}
        kind, length = (("PDQ", 64), ("MD5", 32), ("SHA256", 64))[number % 3]
        one = digits((number, "tat"), length)
        world.tat.change(number, THEN + number // 7 + 0.25, algorithm=kind, hash_digest=one, file_type="png")
        expected["tat"][str(number)] = {(kind.lower(), one)}
        one = digits((number, "fb"))
        world.fb.change(one, THEN + number // 60)
        expected["fb"][f"HASH_PDQ:{one}"] = {("pdq", one)}
    # What is of no picture.
    world.ncmec.change("film", THEN, kind="video", prints={"md5": digits("film", 32)})
    world.stopncii.change(digits("film", 32), THEN, signalType="VideoMD5")
    world.stopncii.change("https://page.example/", THEN, signalType="URL", caseNumbers=[])
    world.tat.change(90_000, THEN, algorithm="MD5", hash_digest=digits("film", 32), file_type="mp4")
    world.fb.change("0badc0de0badc0de.example", THEN, type_="DOMAIN")
    return expected


def settled(when: int) -> None:
    """Wait until NCMEC's fetcher, which leaves the last five seconds out, asks for that time."""
    time.sleep(max(0.0, when + 7 - time.time()))


def everything_is_there(world: World, expected: dict[str, dict[str, set[tuple[str, str]]]]) -> None:
    for name, wanted in expected.items():
        assert world.bank(name) == wanted, name
