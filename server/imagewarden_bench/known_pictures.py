"""Known pictures: a banned file, a banned PDQ hash beside Meta's matcher, and a picture that comes again."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewarden import BankKind, Hash, SignalType
from imagewarden_bench.load import CHECK, Load, closed, posted
from imagewarden_bench.pictures import MEGAPIXEL, SMALL, encoded
from imagewarden_bench.processes import Contender
from imagewarden_bench.setting import Setting, check_request, running, spread, verdicts
from imagewarden_eval.service import Service
from imagewarden_server import media

_OTHERS = 1_000
_FILES = 64
_CALLERS = 16
_PEER_CALLERS = 4
_MOST_A_SECOND = 6_000
_MOST_SMALL_A_SECOND = 160


def measure(setting: Setting) -> dict[str, Any]:
    """Checks a second, and each round's ratios."""
    scratch = setting.folder("known")
    with running(setting, scratch) as whole:
        return {
            "digest": _digests(setting, whole.service),
            "pdq": _pdq(setting, whole.service, scratch),
            "repeat": _repeats(setting, whole.service),
        }


def _digests(setting: Setting, service: Service) -> dict[str, Any]:
    files = setting.pictures.files(_FILES, SMALL)
    banned = [hashlib.sha256(one).hexdigest() for one in files] + _random(_OTHERS, setting.seed)
    service.client.create_bank("digests", BankKind.BANNED)
    service.client.add_hashes("digests", [Hash(SignalType.SHA256, one) for one in banned])
    requests = [check_request(one, ["digests"]) for one in files]
    loads = []
    with setting.progress.task("banned digests", setting.sizes.rounds) as step:
        for _ in range(setting.sizes.rounds):
            most = int(_MOST_A_SECOND * setting.sizes.seconds)
            many = list(itertools.islice(itertools.cycle(requests), most))
            loads.append(closed(service.address, CHECK, many, _CALLERS, setting.sizes.seconds))
            step(1)
    found = verdicts(loads[-1].answers[:200])
    return {
        "callers": _CALLERS,
        "file_bytes": round(float(np.mean([len(one) for one in files]))),
        "verdicts": found,
        "checks_a_second": spread([one.rate for one in loads]),
        "p50_ms": spread([one.percentile(0.5) for one in loads]),
        "p99_ms": spread([one.percentile(0.99) for one in loads]),
    }


def _pdq(setting: Setting, service: Service, scratch: Path) -> dict[str, Any]:
    """Copies of pictures whose hashes are banned, each file new, so that no memory of an earlier check helps."""
    sizes = setting.sizes
    originals = [setting.pictures.picture(SMALL) for _ in range(_FILES)]
    frames = [media.decode(encoded(one, "PNG"), media.Limits()).frames[0] for one in originals]
    banned = [frame.pdq.hex() for frame in frames] + _random(_OTHERS, setting.seed + 1)
    service.client.create_bank("perceptual", BankKind.BANNED)
    service.client.add_hashes("perceptual", [Hash(SignalType.PDQ, one) for one in banned])
    (scratch / "hashes").write_text("\n".join(banned))
    generator = np.random.default_rng(setting.seed)

    def copies(count: int) -> list[bytes]:
        made = []
        for _ in range(count):
            pixels = np.array(originals[int(generator.integers(_FILES))])
            # A block in another light and a number behind the end of the picture: other pixels, and another file.
            top, left = generator.integers(0, 496, 2)
            pixels[top : top + 16, left : left + 16] ^= 32
            made.append(encoded(Image.fromarray(pixels), quality=int(generator.integers(70, 95))) + generator.bytes(16))
        return made

    ours: list[Load] = []
    theirs: list[Load] = []
    count = int(_MOST_SMALL_A_SECOND * sizes.seconds / 2)
    with (
        Contender("hma", scratch / "hashes", scratch / "hma.log") as peer,
        setting.progress.task("banned PDQ hashes", sizes.rounds) as step,
    ):
        for number in range(sizes.rounds):
            files = copies(count)
            requests = [check_request(one, ["perceptual"]) for one in files]
            # By turns, and each as often first as second.
            if number % 2:
                theirs.append(posted(peer.said["port"], files, _PEER_CALLERS, sizes.seconds))
            ours.append(closed(service.address, CHECK, requests, _PEER_CALLERS, sizes.seconds))
            if not number % 2:
                theirs.append(posted(peer.said["port"], files, _PEER_CALLERS, sizes.seconds))
            step(1)
    return {
        "callers": _PEER_CALLERS,
        "verdicts": verdicts(ours[-1].answers),
        "peer_matched": sum(b'"matches": []' not in one for one in theirs[-1].answers),
        "peer_answers": len(theirs[-1].answers),
        "checks_a_second": spread([one.rate for one in ours]),
        "peer_a_second": spread([one.rate for one in theirs]),
        "of_peer": spread([one.rate / two.rate for one, two in zip(ours, theirs, strict=True)]),
        "p99_ms": spread([one.percentile(0.99) for one in ours]),
    }


def _repeats(setting: Setting, service: Service) -> dict[str, Any]:
    """Pictures that are new, and the same again: of a bank whose entry is recognised by all signals."""
    sizes = setting.sizes
    service.client.create_bank("content", BankKind.BANNED)
    service.client.add_image("content", setting.pictures.banned_file(MEGAPIXEL))
    new, again = [], []
    with setting.progress.task("pictures that come again", sizes.rounds) as step:
        for _ in range(sizes.rounds):
            requests = [check_request(one, ["content"]) for one in setting.pictures.files(24, MEGAPIXEL)]
            new.append(closed(service.address, CHECK, requests, _PEER_CALLERS, 600))
            many = list(itertools.islice(itertools.cycle(requests), int(1_000 * sizes.seconds)))
            again.append(closed(service.address, CHECK, many, _PEER_CALLERS, sizes.seconds))
            verdicts(new[-1].answers, new=True)
            step(1)
    return {
        "callers": _PEER_CALLERS,
        "new_a_second": spread([one.rate for one in new]),
        "again_a_second": spread([one.rate for one in again]),
        "of_new": spread([two.rate / one.rate for one, two in zip(new, again, strict=True)]),
    }


def _random(count: int, seed: int) -> list[str]:
    return [np.random.default_rng((seed, number)).bytes(32).hex() for number in range(count)]


def rates(record: dict[str, Any]) -> Sequence[tuple[str, float]]:
    """The medians, for a plot."""
    return [
        ("banned digest", record["digest"]["checks_a_second"]["median"]),
        ("banned PDQ", record["pdq"]["checks_a_second"]["median"]),
        ("HMA's matching", record["pdq"]["peer_a_second"]["median"]),
        ("repeated", record["repeat"]["again_a_second"]["median"]),
        ("new", record["repeat"]["new_a_second"]["median"]),
    ]
