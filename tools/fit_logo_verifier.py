"""Fit the verifier of logos: a small network that sees a piece of a picture and a logo's drawing side by side.

    npm pack @iconify-json/logos simple-icons --ignore-scripts       # unpack each into a directory of its own
    pip install 'imagewarden[server,eval]' torch onnx                # torch and onnx for the occasion
    python tools/fit_logo_verifier.py --images caltech101 --logos iconify-logos/package --logos simple-icons/package

Neither brands nor photographs that anything is measured on are learned from, nor those that scores are weighed on. The
drawings, the pieces and what the network sees of both are made by the server's own code. One thread, about half an
hour, 4 GB; the same for the same seed, packages, photographs and machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before numpy and OpenCV are loaded, which read it once: sums by several threads differ from run to run.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

import logo_verifier_pairs as pairs  # noqa: E402
from imagewarden_server.matching.verifier import NETWORK  # noqa: E402
from logo_verifier_drawings import Logo, frame, read  # noqa: E402

STEPS = 3_600
CUTS = 24_000
_OWN_VARIANTS = 4
_LOOK_VARIANTS = 2
_SHAPES_SHARE = 6


def main() -> None:
    """Fit and write."""
    options = _options()
    try:
        import logo_verifier_network as network  # noqa: PLC0415 -- torch and onnx are no requirements of the project
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error.name} is not installed, which this tool alone needs: pip install torch onnx"
        ) from error
    cv2.setNumThreads(1)
    started = time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", flush=True)

    photographs = pairs.Photographs(options.images, options.exclude)
    logos = read(options.logos, _chance(options.seed, "logos"))
    report(f"{len(photographs)} photographs, {len(logos)} drawings of {len({logo.brand for logo in logos})} brands")
    lessons = _lessons(network, logos, photographs, options, report)
    teacher = network.Teacher(lessons, options.steps, options.seed)
    teacher.teach(report)
    validation = teacher.validate()
    report(f"validation: {validation}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    difference = network.write(teacher.network, options.out)
    record = _record(options, logos) | {
        "photographs": len(photographs),
        "cuts": {name: len(getattr(lessons, name).about) for name in ("own", "looks", "places", "shapes")},
        "batch": network.BATCH,
        "torch": network.TORCH,
        "validation": validation,
        "opencv_differs_by": difference,
        "sha256": hashlib.sha256(options.out.read_bytes()).hexdigest(),
        "seconds": round(time.monotonic() - started),
    }
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    report(f"{options.out}, {options.out.stat().st_size:,} bytes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="photographs without logos; of Caltech101's form")
    parser.add_argument(
        "--logos",
        type=Path,
        action="append",
        required=True,
        help="an unpacked icon package: the first has logos in their colours, the second the same brands in one colour",
    )
    parser.add_argument("--exclude", action="append", help="photographs to leave out; by default 'Faces_easy/*'")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cuts", type=int, default=CUTS, help="cuts with a logo; and as many of each kind without")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=NETWORK)
    options = parser.parse_args()
    # Faces shows the same people, and the two are on different sides of the split.
    options.exclude = options.exclude or ["Faces_easy/*"]
    if len(options.logos) < 2:
        parser.error("name two packages: one with logos in their colours, one with the same brands in one colour")
    return options


def _lessons(
    network: Any, logos: list[Logo], photographs: pairs.Photographs, options: argparse.Namespace, report: pairs.Report
) -> Any:
    """Everything that is cut, each kind from chance of its own."""

    def chance(kind: str) -> np.random.Generator:
        return _chance(options.seed, kind)

    own = pairs.with_logos(logos, photographs, options.cuts, _OWN_VARIANTS, chance("own"))
    report(f"{options.cuts} cuts with logos")
    places = pairs.anywhere(photographs, options.cuts, chance("places"))
    report(f"{options.cuts} cuts anywhere")
    looks = pairs.looked_at(logos, photographs, options.cuts, _LOOK_VARIANTS, chance("looks"))
    report(f"{options.cuts} cuts where an outline fits")
    drawn = pairs.plain_shapes()
    shapes = pairs.with_shapes(drawn, photographs, options.cuts // _SHAPES_SHARE, _OWN_VARIANTS, chance("shapes"))
    report(f"{options.cuts // _SHAPES_SHARE} cuts with plain shapes")
    return network.Lessons(logos, own, looks, places, shapes, [frame(shape) for shape in drawn])


def _record(options: argparse.Namespace, logos: list[Logo]) -> dict[str, Any]:
    """What was fitted on, by names that mean the same on any machine."""
    packages = [_package(folder) for folder in options.logos]
    named = ["--images", options.images.resolve().name]
    for package in packages:
        named += ["--logos", package]
    for name in ("steps", "cuts", "seed"):
        named += [f"--{name}", str(getattr(options, name))]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": " ".join(["python tools/fit_logo_verifier.py", *named]),
        "seed": options.seed,
        "steps": options.steps,
        "excluded": options.exclude,
        "brands": len({logo.brand for logo in logos}),
        "drawings": len(logos),
        "drawings_sha256": _digest(logos),
    }


def _package(folder: Path) -> str:
    """The name and version of an unpacked npm package; of another folder its name."""
    try:
        said = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        return f"{said['name']}@{said['version']}"
    except (OSError, ValueError, KeyError):
        return folder.resolve().name


def _chance(seed: int, kind: str) -> np.random.Generator:
    """A source of chance that is the same for the same seed and kind."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed} {kind}".encode()).digest()[:8], "big"))


def _digest(logos: list[Logo]) -> str:
    """Says of a network what it was fitted on."""
    digest = hashlib.sha256()
    for logo in logos:
        digest.update(logo.brand.encode())
        digest.update(logo.drawn.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
