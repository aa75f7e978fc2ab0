"""New pictures over gRPC: beside the bare model, which is the limit, and the textbook model, served in the same way."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from imagewarden import BankKind
from imagewarden_bench.load import CHECK, PREDICT, Load, arriving, closed
from imagewarden_bench.pictures import MEGAPIXEL, Pictures
from imagewarden_bench.processes import Contender, export_textbook, processor_seconds, textbook_host
from imagewarden_bench.setting import Running, Setting, check_request, running, spread, stage_medians, verdicts
from imagewarden_eval.service import READY_SECONDS, Service, patiently
from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.tensors import write_pictures
from imagewarden_serving import npm

# What the bare model is tried with once: the best of it is the limit. (pictures a call, threads that call)
_SHAPES = ((1, 1), (1, 2), (4, 1), (4, 2), (8, 1))
_OPEN_SHARE = 0.7
_LIKELY_RATE = 16.0
_WIRE_CHECKS = 30


def measure(setting: Setting) -> dict[str, Any]:
    """Throughput and latency by the number of callers, and each round's ratios."""
    sizes, scratch = setting.sizes, setting.folder("new")
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        # What takes long to start does so while pictures are banned; not beside our own host, for which banning waits.
        ours = stack.enter_context(running(setting, scratch))
        exported = pool.submit(export_textbook, scratch)
        started = pool.submit(
            lambda: stack.enter_context(Contender("model", setting.model_base_path, scratch / "bare.log"))
        )
        banned = fill(setting, ours.service)
        bare = started.result()
        textbook = stack.enter_context(textbook_host(exported.result(), scratch))
        limit = max(_SHAPES, key=lambda shape: _bare(bare, shape, sizes.seconds / 3)["a_second"])
        # The first answer of a model builds what later ones use.
        closed(textbook, PREDICT, [predict_request(setting.pictures) for _ in range(8)], 4, sizes.seconds)
        rows: dict[int, list[dict[str, Any]]] = {callers: [] for callers in sizes.callers}
        with setting.progress.task("new pictures", sizes.rounds * len(sizes.callers)) as step:
            for number in range(sizes.rounds):
                for callers in sizes.callers:
                    rows[callers].append(_turn(setting, ours, bare, textbook, limit, callers, number))
                    step(1)
        rate = _OPEN_SHARE * max(row["ours"].rate for row in rows[max(sizes.callers)])
        files = setting.pictures.files(max(8, int(rate * sizes.seconds)), MEGAPIXEL)
        open_loop = arriving(ours.service.address, CHECK, [check_request(one) for one in files], rate, setting.seed)
        verdicts(open_loop.answers, new=True)
        wire = _wire(ours.service.address, banned)
    return {
        "banned_pictures": sizes.entries[0],
        "logos": sizes.entries[1],
        "limit": {"pictures_a_call": limit[0], "threads": limit[1]},
        "by_callers": [_row(callers, found) for callers, found in rows.items()],
        "wire_ms": wire,
        "open_loop": {"arriving_a_second": round(rate, 2), **open_loop.record()},
    }


def fill(setting: Setting, service: Service) -> bytes:
    """Ban pictures and register logos, as many as the run's sizes say; the last banned file."""
    pictures, logos = setting.sizes.entries
    service.client.create_bank("pictures", BankKind.BANNED)
    service.client.create_bank("logos", BankKind.BRAND)
    with setting.progress.task("banning pictures and registering logos", pictures + logos) as step:
        for _ in range(pictures):
            image = setting.pictures.banned_file(MEGAPIXEL)
            patiently(lambda key, image=image: service.client.add_image("pictures", image, request_id=key))  # type: ignore[misc]  # a default binds it
            step(1)
        for slug, svg in _logos(logos, setting.seed):
            patiently(
                lambda key, slug=slug, svg=svg: service.client.register_logo("logos", slug, [svg], request_id=key)  # type: ignore[misc]  # the same
            )
            step(1)
    return image


def _wire(address: str, banned: bytes) -> float:
    """What a check of a file takes its caller beside its stages, ms: of a banned file, whose digest decides at once."""
    load = closed(address, CHECK, [check_request(banned)] * _WIRE_CHECKS, 1, READY_SECONDS)
    return round(load.percentile(0.5) - sum(stage_medians(load.answers).values()), 1)


def _logos(count: int, seed: int) -> list[tuple[str, bytes]]:
    icons = json.loads(npm.read_member(npm.fetch(npm.COLOUR_LOGOS), "icons.json"))
    slugs = np.random.default_rng(seed).permutation(sorted(slug for slug in icons["icons"] if slug.endswith("-icon")))
    made = []
    for slug in slugs[:count].tolist():
        icon = icons["icons"][slug]
        width, height = (icon.get(side, icons.get(side, 256)) for side in ("width", "height"))
        names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        head = f'<svg {names} viewBox="0 0 {width} {height}">'
        made.append((slug, f"{head}{icon['body']}</svg>".encode()))
    return made


def _bare(bare: Contender, shape: tuple[int, int], seconds: float, *, bfloat16: bool = False) -> dict[str, float]:
    return bare.tell(batch=shape[0], threads=shape[1], seconds=seconds, bfloat16=bfloat16)


def _turn(
    setting: Setting,
    whole: Running,
    bare: Contender,
    textbook: str,
    limit: tuple[int, int],
    callers: int,
    number: int,
) -> dict[str, Any]:
    """One round of one number of callers: each contender once, in an order that turns with the round."""
    seconds = setting.sizes.seconds
    found: dict[str, Any] = {}

    def ours() -> None:
        # More than can be checked in the time: none is sent twice.
        files = setting.pictures.files(_enough(found, seconds, callers), MEGAPIXEL)
        requests = [check_request(one) for one in files]
        before = {name: processor_seconds(pid) for name, pid in whole.pids.items()}
        load = closed(whole.service.address, CHECK, requests, callers, seconds)
        spent = {name: processor_seconds(pid) - before[name] for name, pid in whole.pids.items()}
        verdicts(load.answers, new=True)
        found["ours"] = load
        found["processor_ms"] = {name: 1e3 * one / len(load.answers) for name, one in spent.items()}

    def limits() -> None:
        found["pass_ms"] = _bare(bare, (1, 1), seconds / 2)["pass_ms"]
        limit_found = _bare(bare, limit, seconds / 2)
        found["bare"], found["bare_processor_ms"] = limit_found["a_second"], limit_found["processor_ms"]
        if bare.said["bfloat16"]:
            found["bare_bfloat16"] = _bare(bare, limit, seconds / 2, bfloat16=True)["a_second"]

    def text() -> None:
        requests = [predict_request(setting.pictures) for _ in range(_enough(found, seconds, callers))]
        found["textbook"] = closed(textbook, PREDICT, requests, callers, seconds)

    turns = [limits, ours, text]
    for turn in turns[number % 3 :] + turns[: number % 3]:
        turn()
    return found


def _enough(found: dict[str, Any], seconds: float, callers: int) -> int:
    rate = found.get("bare", _LIKELY_RATE)
    return int(rate * seconds * 1.3) + 2 * callers


def predict_request(pictures: Pictures) -> bytes:
    """A PredictRequest of one new picture for the textbook model, as it goes over the wire."""
    request = _tfs.PredictRequest()
    request.model_spec.name = "textbook"
    request.model_spec.signature_name = "serving_default"
    write_pictures(request.inputs["images"], np.asarray(pictures.picture((299, 299)))[None])
    data: bytes = request.SerializeToString()
    return data


def _row(callers: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    loads: list[Load] = [one["ours"] for one in found]
    row: dict[str, Any] = {
        "callers": callers,
        "checks_a_second": spread([one.rate for one in loads]),
        "bare_model_a_second": spread([one["bare"] for one in found]),
        "textbook_a_second": spread([one["textbook"].rate for one in found]),
        "of_bare_model": spread([one["ours"].rate / one["bare"] for one in found]),
        "of_textbook": spread([one["ours"].rate / one["textbook"].rate for one in found]),
    }
    for share in (50, 95, 99):
        row[f"p{share}_ms"] = spread([one.percentile(share / 100) for one in loads])
    if all("bare_bfloat16" in one for one in found):
        row["bare_bfloat16_a_second"] = spread([one["bare_bfloat16"] for one in found])
    row["bare_pass_ms"] = spread([one["pass_ms"] for one in found])
    processor = {name: [one["processor_ms"][name] for one in found] for name in found[0]["processor_ms"]}
    processor["bare model"] = [one["bare_processor_ms"] for one in found]
    row["processor_ms_a_picture"] = {name: spread(values) for name, values in processor.items()}
    row["stages_ms"] = stage_medians([answer for load in loads for answer in load.answers])
    row["p50_of_bare_pass"] = spread([one["ours"].percentile(0.5) / one["pass_ms"] for one in found])
    return row
