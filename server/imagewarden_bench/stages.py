"""Each stage of the road by itself, on one thread: decoding by format and size, digests, PDQ, local features."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewarden_bench.pictures import encoded
from imagewarden_bench.processes import made
from imagewarden_bench.setting import Setting
from imagewarden_server import media
from imagewarden_server.media.pdq import pdq

_FORMATS = ("JPEG", "PNG", "WEBP", "HEIC")
_TURNS = 5


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds, medians; of PDQ also how long Meta's own package takes for the same pixels."""
    rows = []
    hashed = []
    with setting.progress.task("stages", len(setting.sizes.pictures) * (len(_FORMATS) + 1)) as step:
        for size in setting.sizes.pictures:
            name, picture = f"{size[0]} x {size[1]}", setting.pictures.picture(size)
            for form in _FORMATS:
                data = encoded(picture, form) if form != "HEIC" else _heic(picture, setting.scratch)
                rows.append({"format": form, "size": name, "bytes": len(data), **_stages(data)})
                step(1)
            hashed.append({"size": name, **_pdq(picture)})
            step(1)
    return {"files": rows, "pdq": hashed}


def _heic(picture: Image.Image, scratch: Path) -> bytes:
    file = scratch / f"{picture.width}.png"
    picture.save(file)
    made("heic", file)
    return file.with_suffix(".heic").read_bytes()


def _stages(data: bytes) -> dict[str, float]:
    limits = media.Limits()
    frame = media.decode(data, limits).frames[0]
    return {
        "digest_ms": _median(lambda: media.digest(data)),
        "decode_ms": _median(lambda: media.decode(data, limits)),
        "local_ms": _median(lambda: media.extract_checked(frame.small)),
    }


def _pdq(picture: Image.Image) -> dict[str, Any]:
    """Of the same pixels: ours gives the eight turns, Meta's package is asked for one."""
    import pdqhash  # noqa: PLC0415 -- a peer, of the extra `bench`

    pixels = np.asarray(picture)
    ours, theirs = pdq(pixels)[0], pdqhash.compute(pixels)[0]
    ours_ms, theirs_ms = _median(lambda: pdq(pixels)), _median(lambda: pdqhash.compute(pixels))
    return {
        "ours_ms": ours_ms,
        "package_ms": theirs_ms,
        "of_package": round(ours_ms / theirs_ms, 3),
        "bits_apart": int((np.unpackbits(np.frombuffer(ours.bits, np.uint8)) != np.asarray(theirs, bool)).sum()),
    }


def _median(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_TURNS):
        begin = time.perf_counter()
        work()
        took.append(1e3 * (time.perf_counter() - begin))
    return round(statistics.median(took), 2)
