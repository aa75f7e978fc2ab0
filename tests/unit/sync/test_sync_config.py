"""The file that names exchanges, and the credentials that it must not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from threatexchange.exchanges.impl import ncmec_api

from imagewarden_sync import config
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import ConfigError
from imagewarden_sync.exchanges import credentials

GOOD = """
every = "1h"

[[exchanges]]
name = "ncmec-industry"
kind = "ncmec"
bank = "banks/csam"
environment = "Industry"
only_esp_ids = [3, 9]

[[exchanges]]
name = "stopncii"
kind = "stopncii"
bank = "ncii"
every = "90s"
url = "http://127.0.0.1:8080/v1/"
"""


def load(tmp_path: Path, text: str) -> tuple[ExchangeConfig, ...]:
    file = tmp_path / "sync.toml"
    file.write_text(text)
    return config.load(file)


def test_a_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == (
        ExchangeConfig("ncmec-industry", "ncmec", "csam", 3_600.0, {"environment": "Industry", "only_esp_ids": [3, 9]}),
        ExchangeConfig("stopncii", "stopncii", "ncii", 90.0, {"url": "http://127.0.0.1:8080/v1"}),
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "ncmec"', 'kind = "nsmec"', "kind 'nsmec' is not known; ncmec, stopncii"),
        ('bank = "ncii"', "", "exchange 2 (stopncii): bank is missing"),
        ('name = "stopncii"', 'name = "../up"', "name '../up' is none"),
        ('name = "stopncii"', 'name = "ncmec-industry"', "two exchanges are named 'ncmec-industry'"),
        ('environment = "Industry"', "environment = 3", "environment is not a text"),
        ('environment = "Industry"', "", "ncmec needs environment"),
        ("[3, 9]", '["3"]', "only_esp_ids is not an array of whole numbers"),
        ("[3, 9]", "[true]", "only_esp_ids is not an array of whole numbers"),
        ('every = "90s"', 'every = "soon"', "every 'soon' is no interval"),
        ('every = "90s"', "every = 0.5", "less than a second"),
        ('every = "90s"', "every = true", "is no interval"),
        ('every = "90s"', 'password = "hunter2"', "'password' is no setting of stopncii"),
        ('every = "1h"', 'token = "hunter2"', "'token' is not known"),
        ("http://127.0.0.1:8080/v1/", "http://proxy.example/v1", "plain HTTP would show the credentials"),
        ("http://127.0.0.1:8080/v1/", "https://user:hunter2@proxy.example", "url is no address"),
        ("http://127.0.0.1:8080/v1/", "file:///etc/passwd", "url is no address"),
        ("[[exchanges]]", "[[exchange]]", "'exchange' is not known"),
        ("[3, 9]", "[3, 9", "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, GOOD.replace(old, new))
    assert said in raised.value.message
    assert "hunter2" not in raised.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "sync.toml")


def ncmec(**settings: object) -> ExchangeConfig:
    return ExchangeConfig("ncmec", "ncmec", "csam", 60.0, {"environment": "Industry", **settings})


def find(exchange: ExchangeConfig) -> object:
    return credentials.find(exchange, ncmec_api.NCMECCredentials, ncmec_api.NCMECSignalExchangeAPI)


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without any; where a file of them would be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TX_NCMEC_CREDENTIALS", raising=False)
    return tmp_path / ".tx_ncmec_credentials"


def test_credentials_of_the_environment(no_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TX_NCMEC_CREDENTIALS", "acme:s3:cret")
    no_credentials.write_text("other:one")  # open to all, and not read
    no_credentials.chmod(0o644)
    assert find(ncmec()) == ncmec_api.NCMECCredentials("acme", "s3:cret")


def test_credentials_of_the_usual_file(no_credentials: Path) -> None:
    no_credentials.write_text("acme:secret\n")
    no_credentials.chmod(0o600)
    assert find(ncmec()) == ncmec_api.NCMECCredentials("acme", "secret")


@pytest.mark.usefixtures("no_credentials")
def test_a_file_of_its_own_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TX_NCMEC_CREDENTIALS", "industry:one")
    file = tmp_path / "ngo"
    file.write_text("ngo:two")
    file.chmod(0o400)
    found = find(ncmec(credentials_file=str(file)))
    assert (found.user, found.password) == ("ngo", "two")  # type: ignore[attr-defined]  # of the package


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_not_read(no_credentials: Path, mode: int) -> None:
    no_credentials.write_text("acme:secret")
    no_credentials.chmod(mode)
    with pytest.raises(ConfigError) as raised:
        find(ncmec())
    assert f"chmod 600 {no_credentials}" in raised.value.message
    assert "secret" not in raised.value.message


@pytest.mark.usefixtures("no_credentials")
def test_no_credentials() -> None:
    with pytest.raises(ConfigError, match=r"TX_NCMEC_CREDENTIALS in the environment, or .*mode 0600"):
        find(ncmec())


def test_credentials_that_are_none_are_not_told(no_credentials: Path, caplog: pytest.LogCaptureFixture) -> None:
    no_credentials.write_text("only-a-password")
    no_credentials.chmod(0o600)
    with pytest.raises(ConfigError, match="not written as they should be") as raised:
        find(ncmec())
    assert "only-a-password" not in raised.value.message + caplog.text
