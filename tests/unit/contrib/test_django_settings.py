"""What the settings make: clients, checks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import override_settings

from buttdial_sync import AccountsClient, Client, ClientClosedError, ConfigError
from buttdial_sync.contrib.django import get_accounts, get_client
from buttdial_sync.testing import FakeButtDialServer
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

not_a_handler = object()
LOCAL = {"server_url": "http://127.0.0.1:8080"}
RECEIVING = (
    "WHATSAPP_WEBHOOK_SECRET",
    "WHATSAPP_VERIFY_TOKEN",
    "ACCOUNT_WEBHOOK_SECRET",
    "ALLOW_UNSIGNED",
)


def found(**changes: Any) -> list[str]:
    """The ids of what the checks say, with changed settings; None removes a key."""
    changed = {key: value for key, value in {**BUTT_DIAL, **changes}.items() if value is not None}
    with override_settings(BUTT_DIAL=changed):
        return [str(each.id).removeprefix("buttdial_sync.") for each in run_checks()]


async def not_plain(_: object) -> bool:
    return False


class Elsewhere:
    """Keeps the app's tables out of a database."""

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return False if (db, app_label) == ("shop", "buttdial_sync") else None


@contextmanager
def another_database(**configured: Any) -> Iterator[None]:
    """Have a database "shop" in the project."""
    connections.settings["shop"] = connections.configure_settings(
        {"default": {}, "shop": {"NAME": "shop", **configured}}
    )["shop"]
    try:
        yield
    finally:
        del connections["shop"]
        del connections.settings["shop"]


@pytest.mark.parametrize(
    ("number", "configured", "told"),
    [
        ("E007", {"ENGINE": "tests.unit.contrib.mysql_like"}, "'shop' is MySQL or MariaDB"),
        (
            "E011",
            {"ENGINE": "django.db.backends.sqlite3", "AUTOCOMMIT": False},
            "'shop' has AUTOCOMMIT off",
        ),
    ],
)
def test_databases_that_are_refused(number: str, configured: dict[str, Any], told: str) -> None:
    """As long as the app's tables may be there."""
    with another_database(**configured):
        (error,) = (each for each in run_checks() if each.id == f"buttdial_sync.{number}")
        assert told in error.msg
        with override_settings(DATABASE_ROUTERS=[f"{__name__}.Elsewhere"]):
            assert number not in found()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, []),
        ({"BASE_URL": None}, ["W001"]),
        ({"AGENT_TOKEN": None}, ["W004"]),
        ({"AGENT_TOKEN": ""}, ["W004", "W005"]),
        ({"AGENT_TOKEN": "agent-token\n"}, ["W006"]),
        ({"AGENT_TOKEN": None, "RETRY": {"token_for": f"{__name__}.found"}}, []),
        ({"AGENT_TOKEN": None, "OUTBOX": {"keep_tokens": True}}, ["W008"]),
        ({"WHATSAPP_WEBHOOK_SECRET": ""}, ["W002", "W005"]),
        ({"ACCOUNT_WEBHOOK_SECRET": ""}, ["W005"]),
        ({"ACCOUNT_WEBHOOK_SECRET": ["old", ""]}, ["W005"]),
        ({"ACCOUNT_WEBHOOK_SECRET": ("old", "new")}, []),
        ({"ACCOUNT_WEBHOOK_SECRET": ("old ", "\tnew")}, ["W006", "W006"]),
        ({"WHATSAPP_VERIFY_TOKEN": "verify-me\n"}, ["W006"]),
        pytest.param({"ACCOUNT_WEBHOOK_SECRET": {"org-1": "x"}.get}, [], id="function"),
        ({"ON_UNDELIVERED": None}, ["W007"]),
        ({"INBOX": False}, ["W009"]),
        ({**dict.fromkeys(RECEIVING), "INBOX": False}, ["W003"]),
        ({"ON_UNDELIVERED": "nowhere.at.all"}, ["E002", "E005"]),
        ({"TOKEN": "x"}, ["E001"]),
        ({"HANDLER": "nowhere.to.be.found"}, ["E002"]),
        ({"HANDLER": f"{__name__}.not_a_handler"}, ["E002"]),
        ({"ALLOW_UNSIGNED": ["telegram"]}, ["E002"]),
        ({"ALLOW_UNSIGNED": ["whatsapp"]}, ["E003"]),
        ({"WHATSAPP_VERIFY_TOKEN": None}, ["W002"]),
        ({"WHATSAPP_WEBHOOK_SECRET": None}, ["W002"]),
        (dict.fromkeys(RECEIVING), ["W003"]),
        ({**dict.fromkeys(RECEIVING), "ON_UNDELIVERED": None}, ["W003"]),
        ({"AGENT_DIRECTORY": None}, ["E004"]),
        ({"FAILED_MESSAGES": "nowhere.at.all"}, ["E005"]),
        ({"OPERATOR_PERMISSION": f"{__name__}.not_a_handler"}, ["E006"]),
        ({"OPERATOR_PERMISSION": f"{__name__}.not_plain"}, ["E006"]),
        ({"AILOOP": LOCAL}, ["W010"]),
        ({"AILOOP": LOCAL, "ON_ANSWER": f"{__name__}.found"}, []),
        ({"AILOOP": LOCAL, "ON_ANSWER": f"{__name__}.not_a_handler"}, ["E006"]),
        ({"AILOOP": LOCAL, "ON_ANSWER": "nowhere.at.all"}, ["E005"]),
        ({"ON_ANSWER": f"{__name__}.found"}, ["E008"]),
        ({"AILOOP": {"server_url": "gopher://x"}, "ON_ANSWER": f"{__name__}.found"}, ["E008"]),
        ({"AILOOP": {**LOCAL, "chanel": "x"}, "ON_ANSWER": f"{__name__}.found"}, ["E008"]),
        ({"CLIENT": {"timeout": 3, "max_attempts": 1}, "OUTBOX": {"lease": 60}}, []),
        ({"CLIENT": {"timeot": 3, "max_atempts": 1}}, ["E009", "E009"]),
        ({"CLIENT": {"timeout": "3"}}, ["E010"]),
        ({"CLIENT": 3}, ["E001"]),
        ({"ACCOUNTS": {"timeout": "3"}}, ["E010"]),
        ({"LISTENER": {"client": None, "workers": 2}}, ["E009"]),
        ({"OUTBOX": {"leese": 3}}, ["E009"]),
        ({"OUTBOX": {"lease": "3"}}, ["E010"]),
        ({"OUTBOX": {"using": "nowhere"}}, ["E010"]),
        ({"OUTBOX": {"lease": 3.0}}, ["E010"]),
        ({"RETRY": {"batchsize": 3}}, ["E009"]),
        ({"RETRY": {"batch_size": "3"}}, ["E010"]),
        ({"RETRY": {"token_for": "nowhere.at.all"}}, ["E010"]),
        ({"INBOX": {"kep_for": 3}}, ["E009"]),
        ({"INBOX": {"lease": -1}}, ["E010"]),
        ({"INBOX": True}, ["E001"]),
        ({"QUESTIONS": {"lease": "3"}}, ["E010"]),
        ({"BASE_URL": None, "CLIENT": {"timeout": 3}}, ["W001"]),
    ],
    ids=str,
)
def test_checks(changes: dict[str, Any], wanted: list[str]) -> None:
    """What is missing or contradicts itself is named when the project is checked."""
    assert found(**changes) == wanted


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"CLIENT": {"timeot": 3}},
            "BUTT_DIAL['CLIENT']: 'timeot' is unknown: did you mean 'timeout'?",
        ),
        ({"CLIENT": {"TIMEOUT": 3}}, "'TIMEOUT' is unknown: did you mean 'timeout'?"),
        ({"RETRY": {"xyz": 3}}, "BUTT_DIAL['RETRY']: 'xyz' is unknown"),
        ({"CLIENT": {"timeout": "3"}}, "BUTT_DIAL['CLIENT']: timeout must be"),
        ({"CLEINT": {}}, "BUTT_DIAL has unknown keys: 'CLEINT': did you mean 'CLIENT'?"),
        ({"agent_token": ""}, "'agent_token': did you mean 'AGENT_TOKEN'?"),
        ({"OUTBOX": 3}, "BUTT_DIAL['OUTBOX'] must be a dict"),
        ({"OUTBOX": {"lease": 3.0}}, "lease"),
    ],
    ids=str,
)
def test_a_misspelt_option_is_named(changes: dict[str, Any], told: str) -> None:
    """With the name that was meant, where there is one."""
    with override_settings(BUTT_DIAL={**BUTT_DIAL, **changes}):
        (found_one,) = run_checks()
    assert told in found_one.msg


def test_a_missing_agent_token_is_named() -> None:
    """The check names the setting and the variable; the variable alone is enough."""
    changed = {key: value for key, value in BUTT_DIAL.items() if key != "AGENT_TOKEN"}
    with override_settings(BUTT_DIAL=changed):
        (found_one,) = run_checks()
        assert "BUTT_DIAL['AGENT_TOKEN']" in str(found_one.hint)
        assert "BUTT_DIAL_AGENT_TOKEN" in str(found_one.hint)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BUTT_DIAL_AGENT_TOKEN", "from-the-environment")
            assert run_checks() == []


def test_checks_show_no_secret() -> None:
    """A check's message does not repeat a secret."""
    configured = {**BUTT_DIAL, "ALLOW_UNSIGNED": ["whatsapp"], "ALOW_UNSIGNED": "app-secret"}
    with override_settings(BUTT_DIAL=configured):
        assert "app-secret" not in str(run_checks())


def test_wrong_settings_are_reported_by_the_client() -> None:
    """A wrong setting is an error where it is used too."""
    with override_settings(BUTT_DIAL=[]), pytest.raises(ImproperlyConfigured):
        get_client()
    with override_settings(BUTT_DIAL={}), pytest.raises(ConfigError):
        get_client()


def test_one_client_for_all_threads() -> None:
    """Threads that come at once get the same client."""
    start = threading.Barrier(8)
    clients: list[Client] = []

    def get() -> None:
        start.wait(5)
        clients.append(get_client())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1


def test_changed_settings_close_the_client(fake_server: FakeButtDialServer) -> None:
    """A test that changes the settings gets another client, and the old one is closed."""
    before = get_client()
    assert before.send_message("+14155550123", "hi").ok
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "CLIENT": {"timeout": 3.0}}):
        assert get_client() is not before
    with pytest.raises(ClientClosedError):
        before.ping()


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings lack is looked up in the environment."""
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", "https://from-the-environment.test")
    with override_settings(BUTT_DIAL={}):
        assert get_client().base_url == "https://from-the-environment.test"
        accounts = get_accounts()
        assert isinstance(accounts, AccountsClient)
        assert accounts is get_accounts()
