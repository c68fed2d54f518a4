"""Key files in both formats, the environment, and what is wrong with them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.errors import AuthError, ConfigError
from buttdial_sync.happy import credentials
from buttdial_sync.happy.errors import AuthenticationError, CredentialsError, HappyError
from buttdial_sync.settings import variables_of

SECRET = base64.b64encode(bytes(range(32))).decode()
TOKEN = "eyJ-token"
AGENT_KEY = {"token": TOKEN, "secret": SECRET}
ACCESS_KEY = {"token": TOKEN, "encryption": {"publicKey": "AAAA", "machineKey": SECRET}}


def written(folder: Path, name: str, data: Any) -> Path:
    file = folder / name
    file.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return file


@pytest.mark.parametrize(("data", "kind"), [(AGENT_KEY, "account"), (ACCESS_KEY, "machine")])
def test_the_format_tells_whose_secret_it_is(tmp_path: Path, data: Any, kind: str) -> None:
    """Both formats are read; a machineKey is not taken for the account secret."""
    found = credentials.load_credentials(written(tmp_path, "some.key", data))
    assert (str(found.token), bytes(found.secret), found.kind) == (TOKEN, bytes(range(32)), kind)


def test_older_access_keys(tmp_path: Path) -> None:
    """An access.key with a secret is the account's."""
    found = credentials.load_credentials(written(tmp_path, "access.key", AGENT_KEY))
    assert found.kind == "account"


def test_agent_key_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path agent.key is taken, and access.key where there is none."""
    monkeypatch.setenv("HAPPY_HOME_DIR", str(tmp_path))
    written(tmp_path, "access.key", ACCESS_KEY)
    assert credentials.load_credentials(None).kind == "machine"
    written(tmp_path, "agent.key", AGENT_KEY)
    assert credentials.load_credentials(None).kind == "account"
    assert credentials.credentials_of(None, None, None).source == str(tmp_path / "agent.key")


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    """HAPPY_TOKEN and HAPPY_SECRET win, and say nothing about whose secret it is."""
    file = written(tmp_path, "agent.key", AGENT_KEY)
    home = {"HAPPY_HOME_DIR": str(tmp_path)}
    assert credentials.arguments_from_env(home) == {"credentials_path": file}
    environ = {**home, "HAPPY_TOKEN": TOKEN, "HAPPY_SECRET": SECRET}
    given = credentials.arguments_from_env(variables_of(environ, credentials.VARIABLES))
    assert given == {"token": TOKEN, "secret_b64": SECRET}
    assert SECRET not in repr(given)
    assert credentials.credentials_of(**given, path=None).kind == "unknown"


@pytest.mark.parametrize("name", ["HAPPY_TOKEN", "HAPPY_SECRET"])
def test_half_of_the_credentials(tmp_path: Path, name: str) -> None:
    """One of the two alone is an error, and does not silently fall back to the file."""
    file = written(tmp_path, "agent.key", AGENT_KEY)
    with pytest.raises(CredentialsError, match="both"):
        credentials.arguments_from_env({"HAPPY_HOME_DIR": str(tmp_path), name: SECRET})
    half = {"token": TOKEN if name == "HAPPY_TOKEN" else None}
    half["secret_b64"] = None if half["token"] else SECRET
    with pytest.raises(CredentialsError, match="both"):
        credentials.credentials_of(**half, path=file)


@pytest.mark.parametrize(
    "data",
    [
        "no json",
        "[]",
        "{}",
        {"token": TOKEN},
        {"secret": SECRET},
        {"token": TOKEN, "secret": "!!!"},
        {"token": TOKEN, "secret": SECRET[:20]},
        {"token": TOKEN, "secret": 7},
        {"token": 7, "secret": SECRET},
        {"token": "a\nb", "secret": SECRET},
        {"token": TOKEN, "encryption": "machineKey"},
        {"token": TOKEN, "encryption": {"machineKey": None}},
    ],
)
def test_malformed_files(tmp_path: Path, data: Any) -> None:
    """A file that is no key file says so, with its path and without what is in it."""
    file = written(tmp_path, "agent.key", data)
    with pytest.raises(CredentialsError) as caught:
        credentials.load_credentials(file)
    assert str(file) in str(caught.value)
    assert caught.value.outcome == "not_sent"
    assert caught.value.__context__ is None
    assert SECRET[:20] not in repr(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A missing file is told under its path."""
    with pytest.raises(CredentialsError, match=r"nowhere\.key"):
        credentials.load_credentials(tmp_path / "nowhere.key")
    with pytest.raises(CredentialsError, match=r"agent\.key"):
        credentials.default_key_file({"HAPPY_HOME_DIR": str(tmp_path)})


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    """What cannot be read is told."""
    with pytest.raises(CredentialsError, match="cannot be read"):
        credentials.load_credentials(tmp_path)


def test_classes() -> None:
    """Wrong credentials are a refused token and a wrong setting alike, for those who catch."""
    for kind in (AuthenticationError, AuthError, ConfigError, HappyError):
        assert issubclass(CredentialsError, kind)


def test_nothing_is_shown() -> None:
    """Neither the token nor the secret is in the repr."""
    found = credentials.credentials_of(TOKEN, SECRET, None)
    assert TOKEN not in repr(found)
    assert SECRET not in repr(found)
    assert repr(bytes(range(32))) not in repr(found)
