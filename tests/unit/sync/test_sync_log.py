"""What is written to the log, and above all what is not."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from imagewarden_sync import log
from imagewarden_sync.service import retry_after


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was written since logging was set up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.configure()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json(lines: Callable[[], list[dict[str, Any]]]) -> None:
    log.info("done", exchange="tat", added=3)
    (line,) = lines()
    assert line.pop("timestamp")
    assert line == {"level": "info", "event": "done", "exchange": "tat", "added": 3}


def test_of_other_packages_the_sentence_alone(lines: Callable[[], list[dict[str, Any]]]) -> None:
    package = logging.getLogger("threatexchange.test")
    package.info("Authenticating with TCAP: %s", "acme-safety")
    package.warning("Retrying after %r: %s", "reset", "/550/?access_token=secret")
    package.error("Exception during parsing %s", "secret", exc_info=ValueError("secret"))
    found = lines()
    assert [line["said"] for line in found] == ["Retrying after %r: %s", "Exception during parsing %s"]
    assert "secret" not in json.dumps(found)


def test_a_terminal_obeys_nothing_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.configure()
    log.warning("refused", exchange="tat", record="\x1b[2J\x9b2J")
    root.handlers[:] = handlers
    root.setLevel(level)
    assert written.getvalue().endswith('warning refused exchange="tat" record="\\u001b[2J\\u009b2J"\n')


@pytest.mark.parametrize(
    ("failures", "every", "seconds"),
    [
        (1, 900.0, 30.0),
        (2, 900.0, 60.0),
        (5, 900.0, 480.0),
        (50, 900.0, 3_600.0),
        (1, 2.0, 2.0),
        (90, 86_400.0, 86_400.0),
    ],
)
def test_who_fails_is_asked_less_and_less_often(failures: int, every: float, seconds: float) -> None:
    assert retry_after(failures, every) == seconds
