"""Tiny runs of `imagewarden eval` against a real server and model host: what they measure, what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image
from tests.support.processes import Host, Server

from imagewarden_eval.logo_files import is_measured

DATA = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
)
SHAPES = (
    '<circle cx="50" cy="50" r="45" fill="#e4002b"/><path d="M20 60 L50 15 L80 60 Z" fill="#ffffff"/>',
    '<rect x="5" y="5" width="90" height="90" rx="20" fill="#0055d4"/><circle cx="50" cy="50" r="22" fill="#ffd400"/>',
    '<path d="M5 5 H95 V35 H65 V95 H35 V35 H5 Z" fill="#118844"/><circle cx="50" cy="20" r="9" fill="#ffffff"/>',
)

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures of one folder: four windows of each of six photographs, which share no pixel."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in PHOTOGRAPHS:
        image = Image.open(DATA / name).convert("RGB")
        width, height = image.width // 2, image.height // 2
        for number in range(4):
            left, top = (number % 2) * width, (number // 2) * height
            image.crop((left, top, left + width, top + height)).save(folder / f"{Path(name).stem}-{number}.jpg")
    return folder


def evaluate(*arguments: str | Path) -> dict[str, Any]:
    """Run the command as a process of its own, as people do; its record."""
    command = [sys.executable, "-m", "imagewarden", "eval", *map(str, arguments), "--json"]
    ended = subprocess.run(
        command, capture_output=True, check=False, text=True, env={**os.environ, "MPLBACKEND": "Agg"}
    )
    assert ended.returncode == 0, ended.stderr[-3_000:]
    record: dict[str, Any] = json.loads(ended.stdout)
    return record


def test_copies_are_found_over_grpc_and_reported(host: Host, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "copies"
    record = evaluate(
        *("copies", "--images", photographs, "--out", out, "--model-address", host.address),
        *("--references", "6", "--attacks-each", "5", "--negatives", "20"),
    )
    assert (record["references"], record["copies"], record["negative_queries"]) == (6, 30, 20)
    methods = {one["method"]: one for one in record["methods"]}
    assert {"pHash", "PDQ", "semantic", "ours, EMBEDDING"} <= set(methods)
    ours = record["methods"][0]
    assert ours["method"].startswith("ours")
    assert ours["micro_ap"] > methods["pHash"]["micro_ap"]
    assert ours["micro_ap"] > 0.6
    assert json.loads((out / "report.json").read_text()) == record
    assert "| ours" in (out / "report.md").read_text()
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 50
    assert all(one["candidates"] is not None for one in answers)
    for name in ("precision-recall.png", "recall-over-false-alarms.png", "panels/false-alarms.jpg"):
        assert np.asarray(Image.open(out / name).convert("L")).std() > 1


def test_logos_are_found_over_grpc_and_reported(host: Host, photographs: Path, tmp_path: Path) -> None:
    logos = tmp_path / "logos"
    logos.mkdir()
    words = (f"brand{number}" for number in range(1_000))
    for shape in SHAPES:
        brand = next(word for word in words if is_measured(word))
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{shape}</svg>'
        (logos / f"{brand}.svg").write_text(svg)
    out = tmp_path / "report"
    record = evaluate(
        *("logos", "--images", photographs, "--logos", logos, "--out", out, "--model-address", host.address),
        *("--negatives", "100"),
    )
    assert (record["brands"], record["scenes"], record["negative_queries"]) == (3, 15, 100)
    ours = record["methods"][0]
    assert ours["recall_first"]["value"] > 1 / 3  # better than a guess
    assert ours["at"][0]["by_width"]["60%"]["of"] == 3
    assert json.loads((out / "report.json").read_text()) == record
    assert (out / "panels" / "false-alarms.jpg").stat().st_size > 10_000


def test_a_calibrated_policy_can_be_applied(host: Host, server: Server, photographs: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    policy = evaluate(
        *("calibrate", "--images", photographs, "--out", file, "--model-address", host.address),
        *("--references", "6", "--fpr", "0.1"),
    )
    assert json.loads(file.read_text()) == policy
    assert policy["record"]["queries"] == 18
    assert policy["record"]["false_alarms_of_any_signal"] <= 2 * len(policy["thresholds"])
    client = [sys.executable, "-m", "imagewarden", "--server", server.address, "bank"]
    subprocess.run([*client, "create", "abuse", "--kind", "banned"], check=True, capture_output=True)
    subprocess.run([*client, "update", "abuse", "--policy-file", file], check=True, capture_output=True)
    shown = subprocess.run([*client, "show", "abuse", "--json"], check=True, capture_output=True, text=True).stdout
    found = {one["signal"]: one["value"] for one in json.loads(shown)["policy"]["thresholds"]}
    assert {signal: found[signal] for signal in policy["thresholds"]} == policy["thresholds"]


def test_what_cannot_be_run_is_said_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imagewarden", "eval", "copies", "--images", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert ended.returncode == 1
    assert "has no pictures" in ended.stderr
    assert "Traceback" not in ended.stderr
