"""`imagewarden bench`: every part measures real processes, and its report says under what."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagewarden_bench.setting import QUICK

# Eleven processes are started one after the other, and a model is exported.
pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]

PARTS = ("new", "known", "index", "size", "life", "lists", "stages")


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagewarden", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def record(folder: Path, model_base: Path) -> Any:
    few = ("--rounds", "1", "--seconds", "0.5")
    done = bench("--quick", *few, "--out", folder, "--model-base-path", model_base, "--seed", "7", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_says_under_what_it_was_made(record: Any, folder: Path) -> None:
    assert record == json.loads((folder / "report.json").read_text())
    conditions = record["conditions"]
    assert conditions["seed"] == 7
    assert "usearch" in conditions["versions"]
    assert conditions["processor"]
    assert set(PARTS) <= set(record)
    report = (folder / "report.md").read_text()
    for title in (
        "New pictures",
        "Known pictures",
        "The index",
        "Checks by the size",
        "Starts and bans",
        "A list",
        "Stages",
    ):
        assert f"## {title}" in report
    for plot in ("throughput.png", "known.png", "index.png", "size.png"):
        assert (folder / plot).stat().st_size > 1_000


def test_new_pictures_are_held_against_the_bare_model_and_the_textbook(record: Any) -> None:
    rows = record["new"]["by_callers"]
    assert [row["callers"] for row in rows] == list(QUICK.callers)
    for row in rows:
        for ratio in ("of_bare_model", "of_textbook", "p50_of_bare_pass"):
            assert row[ratio]["least"] > 0
        assert row["checks_a_second"]["median"] < 1.5 * row["bare_model_a_second"]["median"], "nothing was left out"
        assert {"decode", "embed", "local_extract", "local_search", "policy"} <= set(row["stages_ms"])
    assert 0 < record["new"]["wire_ms"] < rows[0]["p50_ms"]["median"]
    assert record["new"]["open_loop"]["answers"] > 0


def test_known_pictures_are_found_and_again_is_sooner(record: Any) -> None:
    known = record["known"]
    assert set(known["digest"]["verdicts"]) == {"match"}
    assert known["pdq"]["verdicts"].get("match", 0) > 0
    assert known["pdq"]["peer_matched"] == known["pdq"]["peer_answers"], "the peer finds the same copies"
    assert known["repeat"]["of_new"]["least"] > 1


def test_the_index_answers_as_faiss_does(record: Any) -> None:
    assert all(row["same_answers"] for row in record["index"]["hashes"])
    assert all(row["recall_at_10"]["ours"] > 0.9 for row in record["index"]["vectors"])
    assert all(row["recall_at_10"]["faiss flat"] == 1 for row in record["index"]["vectors"])


def test_a_banks_best_entries_are_the_right_ones(record: Any) -> None:
    rows = record["index"]["entries"]
    assert [row["pictures"] for row in rows] == list(QUICK.banks)
    assert all(row["copy_first"] > 0.9 for row in rows)


def test_searches_go_on_while_the_index_changes_and_is_saved(record: Any) -> None:
    changing = record["index"]["changing"]
    assert set(changing["searches"]) == {"alone", "beside changes", "beside a snapshot"}
    assert all(times["p50_ms"]["least"] > 0 for times in changing["searches"].values())
    assert changing["changes_a_second"] > 0
    assert changing["snapshot_seconds"]["least"] > 0


def test_the_report_says_which_parts_are_in_it(record: Any) -> None:
    said = record["conditions"]["parts"]
    assert re.fullmatch(", ".join(rf"{part} \(\d+ s\)" for part in PARTS), said)


def test_no_check_misses_a_ban_that_was_acknowledged(record: Any) -> None:
    assert record["life"]["bans"]["checks_that_missed_it"] == 0
    assert record["life"]["bans"]["checks_beside"] > 0


def test_our_pdq_is_the_packages(record: Any) -> None:
    assert [row["bits_apart"] for row in record["stages"]["pdq"]] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--part", "everything"], "no part everything; there are new, known, index, size, life, lists, stages"),
        (["--model-base-path", "nowhere"], "imagewarden model export"),
        (["--images", "nowhere", "--part", "index"], "0 photographs in nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said(model_base: Path, arguments: list[str], said: str) -> None:
    done = bench("--model-base-path", model_base, *arguments)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_list_comes_in_while_others_check(record: Any) -> None:
    part = record["lists"]
    assert part["hashes"] == QUICK.started
    assert part["hashes_a_second"] > 0
    for when in ("alone", "beside"):
        for kind in ("new", "digest"):
            assert part["checks"][when][kind]["answers"] > 0
