"""What a check costs by the size of the catalogue: servers over a small one and a large one, asked by turns."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imagewarden import BankKind
from imagewarden_bench.load import CHECK, closed
from imagewarden_bench.pictures import MEGAPIXEL
from imagewarden_bench.processes import made
from imagewarden_bench.setting import Setting, check_request, running, spread, stage_medians, verdicts
from imagewarden_eval.service import READY_SECONDS, Service, patiently

_WARM_UP = 5


def measure(setting: Setting) -> dict[str, Any]:
    """Each size's p50 by one caller, and of each round its ratio to the smallest size's."""
    scratch = setting.folder("size")
    sizes = setting.sizes.catalogues
    with ExitStack() as stack:
        real = _real(setting, scratch / "real")
        services = []
        with setting.progress.task("catalogues by size", len(sizes)) as step:
            for pictures, hashes in sizes:
                folder = scratch / f"{pictures}"
                shutil.copytree(real / "state", folder / "state")
                options = {"state": str(folder / "state"), "pictures": pictures, "hashes": hashes, "seed": setting.seed}
                (folder / "options.json").write_text(json.dumps(options))
                begin = time.perf_counter()
                made("grown", folder / "options.json")
                built = time.perf_counter() - begin
                whole = stack.enter_context(running(setting, folder))
                services.append((pictures, hashes, built, whole.start_seconds, whole.service))
                step(1)
        rows = _rounds(setting, services)
    smallest = rows[0]["p50"]
    return {
        "real_pictures": setting.sizes.real,
        "catalogues": [
            {
                "pictures": pictures + setting.sizes.real,
                "hashes": hashes,
                "made_seconds": round(built, 1),
                "start_seconds": round(started, 1),
                "p50_ms": spread(row["p50"]),
                "of_smallest": spread([one / two for one, two in zip(row["p50"], smallest, strict=True)]),
                "stages_ms": stage_medians(row["answers"]),
            }
            for (pictures, hashes, built, started, _), row in zip(services, rows, strict=True)
        ],
    }


def _real(setting: Setting, folder: Path) -> Path:
    """A state with a few real pictures in it."""
    folder.mkdir()
    with running(setting, folder) as whole:
        service = whole.service
        service.client.create_bank("pictures", BankKind.BANNED)
        service.client.create_bank("hashes", BankKind.BANNED)
        with setting.progress.task("banning real pictures", setting.sizes.real) as step:
            for _ in range(setting.sizes.real):
                image = setting.pictures.banned_file(MEGAPIXEL)
                patiently(lambda key, image=image: service.client.add_image("pictures", image, request_id=key))  # type: ignore[misc]  # a default binds it
                step(1)
    return folder


def _rounds(setting: Setting, services: list[tuple[int, int, float, float, Service]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"p50": [], "answers": []} for _ in services]
    count = setting.sizes.size_checks
    for _, _, _, _, service in services:
        warm = [check_request(one) for one in setting.pictures.files(_WARM_UP, MEGAPIXEL)]
        closed(service.address, CHECK, warm, 1, READY_SECONDS)
    with setting.progress.task("checks by the catalogue's size", setting.sizes.rounds) as step:
        for number in range(setting.sizes.rounds):
            turn = list(zip(services, rows, strict=True))
            for (_, _, _, _, service), row in turn if number % 2 else turn[::-1]:
                requests = [check_request(one) for one in setting.pictures.files(count, MEGAPIXEL)]
                load = closed(service.address, CHECK, requests, 1, READY_SECONDS)
                verdicts(load.answers, new=True)
                row["p50"].append(load.percentile(0.5))
                row["answers"] += load.answers
            step(1)
    return rows
