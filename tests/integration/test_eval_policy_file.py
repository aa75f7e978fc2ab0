"""`bank update --policy-file`: what `eval calibrate` writes, applied by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.support.fake_service import FakeService, fake_service

from imagewarden import cli
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

BANK = types.Bank(
    name="banks/abuse",
    kind=types.BANK_KIND_BANNED,
    policy=types.Policy(
        action=types.ACTION_BLOCK,
        thresholds=[
            types.SignalThreshold(signal=types.SIGNAL_TYPE_PDQ, threshold=31),
            types.SignalThreshold(signal=types.SIGNAL_TYPE_EMBEDDING, threshold=0.8),
        ],
    ),
    enabled=True,
    create_time=Timestamp(seconds=1_800_000_000),
    update_time=Timestamp(seconds=1_800_000_000),
)

Update = Callable[..., tuple[int, str]]


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        running.answer("GetBank", banks_pb.GetBankResponse(bank=BANK))
        running.answer("UpdateBank", banks_pb.UpdateBankResponse(bank=BANK, revision="r2"))
        yield running


@pytest.fixture
def update(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Update:
    def command(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.run(["--server", service.address, "bank", "update", "abuse", *map(str, arguments)])
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return command


def test_a_policy_file_sets_the_thresholds_that_it_names(service: FakeService, update: Update, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"thresholds": {"embedding": 0.62, "local": 9}, "record": {"queries": 3_000}}))
    assert update("--policy-file", file)[0] == 0
    changed = service.calls["UpdateBank"][-1]
    assert list(changed.update_mask.paths) == ["policy.thresholds"]
    assert {one.signal: one.threshold for one in changed.bank.policy.thresholds} == {
        types.SIGNAL_TYPE_PDQ: 31,
        types.SIGNAL_TYPE_EMBEDDING: 0.62,
        types.SIGNAL_TYPE_LOCAL: 9,
    }


def test_what_is_said_beside_it_stands_above_it(service: FakeService, update: Update, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('action = "review"\n[thresholds]\npdq = 24\nembedding = "off"\n')
    assert update("--policy-file", file, "--threshold", "pdq=20")[0] == 0
    changed = service.calls["UpdateBank"][-1]
    assert sorted(changed.update_mask.paths) == ["policy.action", "policy.thresholds"]
    assert changed.bank.policy.action == types.ACTION_REVIEW
    found = {one.signal: one for one in changed.bank.policy.thresholds}
    assert found[types.SIGNAL_TYPE_PDQ].threshold == 20
    assert found[types.SIGNAL_TYPE_EMBEDDING].disabled
    assert update("--policy-file", file, "--action", "block")[0] == 0
    assert service.calls["UpdateBank"][-1].bank.policy.action == types.ACTION_BLOCK


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is no policy file"),
        ('{"thresholds": {"colour": 3}}', "is no policy file"),
        ('{"thresholds": {"pdq": "many"}}', "is no policy file"),
        ('{"thresholds": [1]}', "is no policy file"),
        ("[]", "is no policy file"),
        ("{}", "names neither"),
    ],
)
def test_a_file_that_is_none_changes_nothing(
    service: FakeService, update: Update, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(text)
    code, error = update("--policy-file", file)
    assert code == 2
    assert said in error
    assert not service.calls["UpdateBank"]
    assert update("--policy-file", tmp_path / "missing.json")[0] == 2
