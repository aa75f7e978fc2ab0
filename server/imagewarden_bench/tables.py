"""The report of `imagewarden bench`: tables and plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagewarden_bench.known_pictures import rates
from imagewarden_eval.plots import figure_of, save
from imagewarden_eval.report import head, table

Record = Mapping[str, Any]

_BUILT = ("ours", "faiss HNSW, all threads")


def markdown(record: Record) -> str:
    """The whole report."""
    text = head("Performance", record)
    text += (
        "Figures are medians of the rounds, with the least and the most in brackets; ratios are of one round each.\n\n"
    )
    writers = {
        "new": _new,
        "known": _known,
        "index": _index,
        "size": _size,
        "life": _life,
        "lists": _lists,
        "stages": _stages,
    }
    for part, write in writers.items():
        if part in record:
            text += "\n".join(write(record[part])) + "\n"
    return text


def _spread(value: Mapping[str, float], digits: int = 2) -> str:
    median, least, most = (f"{value[key]:,.{digits}f}" for key in ("median", "least", "most"))
    return f"{median} ({least}-{most})"


def _new(part: Record) -> Iterator[str]:
    limit, opened = part["limit"], part["open_loop"]
    yield "## New pictures\n"
    yield (
        f"JPEG files of one megapixel over gRPC, against {part['banned_pictures']} banned pictures and {part['logos']} "
        f"logos. The bare model is run without a server, in float32 as it is exported, {limit['pictures_a_call']} "
        f"pictures a call by {limit['threads']} threads, the best of what was tried; the textbook model is served in "
        "the same way as ours and asked with pixels that are decoded already.\n"
    )
    columns = [
        "callers",
        "checks/s",
        "bare model/s",
        "of it",
        "textbook/s",
        "times it",
        "p50, ms",
        "p95, ms",
        "p99, ms",
    ]
    rows = [
        [
            one["callers"],
            _spread(one["checks_a_second"]),
            _spread(one["bare_model_a_second"]),
            _spread(one["of_bare_model"]),
            _spread(one["textbook_a_second"]),
            _spread(one["of_textbook"]),
            *(f"{one[f'p{share}_ms']['median']:,.0f}" for share in (50, 95, 99)),
        ]
        for one in part["by_callers"]
    ]
    yield table(columns, rows)
    if all("bare_bfloat16_a_second" in one for one in part["by_callers"]):
        yield "The bare model in bfloat16, in which a host computes by `--mixed-precision auto`:\n"
        yield table(
            ["callers of the round", "bare model in bfloat16/s"],
            [[one["callers"], _spread(one["bare_bfloat16_a_second"])] for one in part["by_callers"]],
        )
    names = list(part["by_callers"][0]["processor_ms_a_picture"])
    yield "Processor time of a picture, ms: what is not the bare model's shares the cores with it.\n"
    yield table(
        ["callers", *names],
        [
            [one["callers"], *(_spread(one["processor_ms_a_picture"][name], 0) for name in names)]
            for one in part["by_callers"]
        ],
    )
    first = part["by_callers"][0]
    yield (
        f"At {first['callers']} at once a check takes {_spread(first['p50_of_bare_pass'])} times the bare model's one "
        f"pass of {first['bare_pass_ms']['median']:.0f} ms. Where that time is, medians: `embed` is the model with its "
        "wire and queue, and runs beside `local_extract` and the `local_search` after it; `wire` is what a banned file "
        "of this size takes its caller beside its stages.\n"
    )
    stages = {"wire": part["wire_ms"], **first["stages_ms"]}
    yield table(
        ["stage", "ms", "of the check"],
        [[name, f"{took:.1f}", f"{took / first['p50_ms']['median']:.2f}"] for name, took in stages.items()],
    )
    yield (
        f"Open loop, {opened['arriving_a_second']} arriving a second: p50 {opened['p50_ms']:.0f} ms, p95 "
        f"{opened['p95_ms']:.0f} ms, p99 {opened['p99_ms']:.0f} ms from their arrival.\n"
    )


def _known(part: Record) -> Iterator[str]:
    digest, pdq, repeat = part["digest"], part["pdq"], part["repeat"]
    yield "## Known pictures\n"
    rows = [
        [
            "banned file, by digest",
            digest["callers"],
            _spread(digest["checks_a_second"], 0),
            "",
            f"{digest['p99_ms']['median']:.1f}",
        ],
        [
            "banned PDQ hash, 512 x 512",
            pdq["callers"],
            _spread(pdq["checks_a_second"], 0),
            f"{_spread(pdq['of_peer'])} times HMA's matching ({_spread(pdq['peer_a_second'], 0)})",
            f"{pdq['p99_ms']['median']:.1f}",
        ],
        [
            "a picture again",
            repeat["callers"],
            _spread(repeat["again_a_second"], 0),
            f"{_spread(repeat['of_new'], 0)} times a new one ({_spread(repeat['new_a_second'])})",
            "",
        ],
    ]
    yield table(["what", "callers", "checks/s", "beside", "p99, ms"], rows)


def _index(part: Record) -> Iterator[str]:
    yield "## The index\n"
    yield f"Vectors of {part['dimensions']} dimensions, twelve views a picture, ten nearest, one query a call:\n"
    names = ["ours", "faiss HNSW", "faiss flat"]
    rows = [
        [
            f"{one['vectors']:,}",
            *(
                f"{one['recall_at_10'][name]:.3f} / {one['p50_ms'][name]:.2f} / {one['p99_ms'][name]:.2f}"
                for name in names
            ),
            one["bytes_a_vector"],
            " / ".join(f"{one['build_seconds'][name]:.1f}" for name in _BUILT),
            f"{one['save_seconds']:.2f} / {one['load_seconds']:.2f}",
        ]
        for one in part["vectors"]
    ]
    columns = ["vectors", *(f"{name}: recall@10 / p50 / p99, ms" for name in names)]
    yield table(
        [
            *columns,
            "bytes a vector",
            "built in s, ours by one thread / faiss by all",
            "snapshot saved / checked and loaded in s",
        ],
        rows,
    )
    yield "The best 50 entries of a bank, twelve views each, over the 100 windows of a picture:\n"
    rows = [
        [
            f"{one['pictures']:,}",
            f"{one['vectors']:,}{', a graph' if one['has_graph'] else ''}",
            *(_spread(one[key]) for key in ("windows_ms", "one_row_ms", "given_ms")),
            f"{one['copy_first']:.2f}",
            one["bytes_a_vector"],
        ]
        for one in part["entries"]
    ]
    columns = ["pictures", "vectors", "all windows, ms", "one row, ms", "50 given entries, ms"]
    yield table([*columns, "the copy first", "bytes a vector"], rows)
    yield "PDQ hashes, all eight turns of a picture together, within 31 bits, exact:\n"
    rows = [
        [
            f"{one['hashes']:,}",
            _spread(one["eight_turns_ms"]["ours"]),
            _spread(one["eight_turns_ms"]["faiss"]),
            _spread(one["of_faiss"]),
            "yes" if one["same_answers"] else "NO",
            one["bytes_a_hash"],
            one["added_and_removed_ms"],
        ]
        for one in part["hashes"]
    ]
    yield table(
        ["hashes", "ours, ms", "faiss flat, ms", "of it", "same answers", "bytes a hash", "one added and removed, ms"],
        rows,
    )

    changing = part["changing"]
    change, snapshot = changing["change_ms"], changing["snapshot_seconds"]
    yield (
        f"Searches of {changing['pictures']:,} pictures' views and {changing['hashes']:,} PDQ hashes, by eight turns "
        f"and 100 windows each: alone, beside a thread that adds and removes entries "
        f"({changing['changes_a_second']} changes a second, {change['p50']:.1f} ms each, p99 {change['p99']:.1f}), and "
        f"beside one that saves snapshots ({snapshot['median']:.1f} s each):\n"
    )
    rows = [
        [name, *(_spread(times[key]) for key in ("p50_ms", "p99_ms", "most_ms"))]
        for name, times in changing["searches"].items()
    ]
    yield table(["searches", "p50, ms", "p99, ms", "longest, ms"], rows)


def _size(part: Record) -> Iterator[str]:
    yield "## Checks by the size of the catalogue\n"
    yield (
        f"New pictures of one megapixel, one caller. {part['real_pictures']} banned pictures are real; the others' "
        "views, keypoints and grey pictures are made of theirs, hashes are random.\n"
    )
    rows = [
        [
            f"{one['pictures']:,}",
            f"{one['hashes']:,}",
            _spread(one["p50_ms"], 0),
            _spread(one["of_smallest"]),
            ", ".join(f"{name} {took:g}" for name, took in one["stages_ms"].items()),
            f"{one['start_seconds']:.1f}",
        ]
        for one in part["catalogues"]
    ]
    yield table(["pictures", "PDQ hashes", "p50, ms", "of the first", "stages, median ms", "start, s"], rows)


def _life(part: Record) -> Iterator[str]:
    bans = part["bans"]
    yield "## Starts and bans\n"
    yield table(
        ["what", "figure"],
        [
            [f"{part['hashes']:,} PDQ hashes banned over gRPC", f"{part['import_seconds']:.0f} s"],
            ["start to SERVING from a snapshot", f"{part['start_from_snapshot_seconds']:.1f} s"],
            ["start to SERVING, the index rebuilt", f"{part['start_by_rebuilding_seconds']:.1f} s"],
            [f"a ban acknowledged, {bans['callers']} callers beside", f"{_spread(bans['acknowledged_ms'])} ms"],
            ["its file matched after that", f"{_spread(bans['matched_ms_after'])} ms"],
            ["checks after it that missed it", bans["checks_that_missed_it"]],
        ],
    )


def _lists(part: Record) -> Iterator[str]:
    yield "## A list that comes in\n"
    yield (
        f"`imagewarden import` of {part['hashes']:,} PDQ hashes into an empty bank took {part['seconds']:.0f} s "
        f"({part['hashes_a_second']:,} a second), and again, all there, {part['again_seconds']:.0f} s. Meanwhile one "
        f"caller checked new pictures of one megapixel against {part['banned_pictures']} banned pictures and "
        f"{part['logos']} logos, one after the other, and another a banned file, twenty times a second:\n"
    )
    rows = [
        [name, when, one["answers"], one["undecided"], *(f"{one[f'p{share}_ms']:,.0f}" for share in (50, 95, 99))]
        for name, key in (("new pictures", "new"), ("a banned file", "digest"))
        for when, one in (("no", part["checks"]["alone"][key]), ("yes", part["checks"]["beside"][key]))
    ]
    yield table(["checks", "beside the import", "answers", "undecided", "p50, ms", "p95, ms", "p99, ms"], rows)


def _stages(part: Record) -> Iterator[str]:
    yield "## Stages, one thread\n"
    rows = [
        [one["format"], one["size"], f"{one['bytes']:,}", one["decode_ms"], one["digest_ms"], one["local_ms"]]
        for one in part["files"]
    ]
    yield table(["format", "size", "bytes", "decode, resize and PDQ, ms", "digests, ms", "local features, ms"], rows)
    rows = [
        [one["size"], one["ours_ms"], one["package_ms"], one["of_package"], one["bits_apart"]] for one in part["pdq"]
    ]
    yield table(["PDQ of pixels", "ours (eight turns), ms", "pdqhash (one), ms", "of it", "bits apart"], rows)


def plots(record: Record, folder: Path) -> None:
    """Throughput by callers, known pictures, and latency by the size of the catalogue."""
    if "new" in record:
        rows = record["new"]["by_callers"]
        figure, axes = figure_of(7, 4)
        for key, name in (
            ("checks_a_second", "checks"),
            ("bare_model_a_second", "bare model"),
            ("textbook_a_second", "textbook"),
        ):
            axes.plot([one["callers"] for one in rows], [one[key]["median"] for one in rows], "o-", label=name)
        axes.set(xscale="log", xlabel="callers", ylabel="pictures a second", ylim=(0, None))
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        save(figure, folder / "throughput.png")
    if "known" in record:
        named = rates(record["known"])
        figure, axes = figure_of(7, 3)
        axes.barh([name for name, _ in named], [rate for _, rate in named])
        axes.set(xscale="log", xlabel="pictures a second")
        axes.invert_yaxis()
        axes.grid(alpha=0.3, axis="x")
        save(figure, folder / "known.png")
    if "size" in record:
        rows = record["size"]["catalogues"]
        figure, axes = figure_of(7, 4)
        axes.plot([one["pictures"] for one in rows], [one["p50_ms"]["median"] for one in rows], "o-")
        axes.set(xscale="log", xlabel="banned pictures", ylabel="p50 of a check, ms", ylim=(0, None))
        axes.grid(alpha=0.3)
        save(figure, folder / "size.png")
    if "index" in record:
        rows = record["index"]["vectors"]
        figure, axes = figure_of(7, 4)
        for name in ("ours", "faiss HNSW", "faiss flat"):
            axes.plot([one["vectors"] for one in rows], [one["p50_ms"][name] for one in rows], "o-", label=name)
        axes.set(xscale="log", yscale="log", xlabel="vectors", ylabel="p50 of a search, ms")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        save(figure, folder / "index.png")
