"""What a list is said to be by how it begins, and what is said of one that is not clear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagewarden.lists import Format, ListError, detect, open_list

PDQ = "f8" * 32


@pytest.mark.parametrize(
    ("head", "format_"),
    [
        (PDQ, Format.HASHES),
        (f"# comment\n\npdq {PDQ}\n", Format.HASHES),
        (f"no hash at all\nmd5:{'a' * 32}\n", Format.HASHES),
        ("signal_type,signal_str,collab,category,tags\r\n", Format.TX_CSV),
        (f'{PDQ},123,2026-01-01,"a b"\n', Format.THREATEXCHANGE),
        (f"broken,,\n{PDQ},123,mine,\n", Format.THREATEXCHANGE),
        ('<?xml version="1.0"?><!-- x --><queryResult xmlns="u">', Format.NCMEC),
        ('<n:queryResult xmlns:n="u">', Format.NCMEC),
        ('{"count": 1, "hashRecords": [', Format.STOPNCII),
        ('[{"hashValue": "', Format.STOPNCII),
        ('{"results": [{"hash_digest": "', Format.TAT),
        ('{"count": 0, "checkpoint": "", "results": []}', Format.TAT),
        ('  {"imagewarden": 1, "bank": "banks/x"}\n{"id": "1"}', Format.JSONL),
    ],
)
def test_a_format_is_known_by_how_it_begins_and_says_why(head: str, format_: Format) -> None:
    found = detect(head.encode())
    assert found.format is format_
    assert found.why


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"# only\n# comments\n", "comments only"),
        ("md5 x".encode("utf-16"), "UTF-16"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"PK\x03\x04", "ZIP"),
        (b"\x80\x04\x95", "pickle"),
        (b"<html><body>", "root is <html>"),
        (b'{"results": [1]}', "with results"),
        (b'{"a": {"hashValue": 1, "hash_digest": 2}}', "neither of StopNCII"),
        (b"[1, 2]", "no keys"),
        (b"first name,last name\nA,B\n", "'first name,last name'"),
        (bytes(range(256)), "no hash"),
    ],
)
def test_what_is_not_clear_is_not_guessed(head: bytes, said: str) -> None:
    with pytest.raises(ListError, match=said):
        detect(head)


def test_the_caller_may_say_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"results": []}))
    with pytest.raises(ListError):
        open_list(path)
    with open_list(path, format="tat") as found:
        assert (found.format, found.why, list(found)) == (Format.TAT, "you say so", [])
    with pytest.raises(ValueError, match="xyz"):
        open_list(path, format="xyz")
    with pytest.raises(FileNotFoundError):
        open_list(tmp_path / "nothing")
