"""The life of an accounts client: made, copied, closed, forgotten."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import (
    AccountsClient,
    ArgumentTypeError,
    ArgumentValueError,
    ClientClosedError,
    ConfigError,
)
from buttdial_sync.testing import FakeButtDialServer

from .workspaces import BASE_URL, TEAM_TOKEN, workspace


def test_from_env() -> None:
    """The environment gives address and token; arguments win over it."""
    environ = {"BUTT_DIAL_URL": f"{BASE_URL}/sse", "BUTT_DIAL_TEAM_TOKEN": " env-token "}
    fake = FakeButtDialServer()
    with fake.mocked(BASE_URL):
        with AccountsClient.from_env(environ) as client:
            client.get_account()
        with AccountsClient.from_env(environ, team_token="own") as client:
            client.get_account()
    assert [request.bearer for request in fake.requests] == ["env-token", "own"]


def test_base_url_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """``BUTT_DIAL_BASE_URL`` comes before ``BUTT_DIAL_URL``, in ``os.environ`` too."""
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", BASE_URL)
    monkeypatch.setenv("BUTT_DIAL_URL", "https://elsewhere.example")
    with AccountsClient.from_env() as client:
        assert client.base_url == BASE_URL


def test_no_base_url() -> None:
    """Without an address the error names the variable."""
    with pytest.raises(ConfigError) as caught:
        AccountsClient.from_env({})
    assert "BUTT_DIAL_BASE_URL" in str(caught.value.remediation)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": "1"},
        {"max_attempts": 0},
        {"team_token": 5},
        {"team_token": b"t"},
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """A wrong setting raises in the constructor, by its name, and leaves nothing to warn about."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        AccountsClient(BASE_URL, **wrong)
    gc.collect()


def test_nothing_is_sent_before_the_first_call() -> None:
    """A client that was only made has done nothing."""
    with workspace() as (fake, _):
        assert fake.requests == []


def test_closed_client_says_so() -> None:
    """After close(), which may be called twice, each call raises, and nothing is sent."""
    with workspace() as (fake, client):
        client.close()
        client.close()
        with pytest.raises(ClientClosedError):
            client.get_account()
        with pytest.raises(ClientClosedError):
            client.with_token("t").get_account()
        assert fake.requests == []


def test_with_token_speaks_for_another_workspace() -> None:
    """The copy sends its own token, the original goes on with its own."""
    with workspace() as (fake, client):
        copy = client.with_token("other")
        copy.get_account()
        client.get_account()
        assert [request.bearer for request in fake.requests] == ["other", TEAM_TOKEN]


def test_with_token_shares_the_connection() -> None:
    """Original and copy use the same connection."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, AccountsClient(loopback.base_url, team_token="a") as client:
        client.get_account()
        client.with_token("b").get_account()
        assert fake.connections == 1


def test_closing_a_copy_does_nothing() -> None:
    """As with an agent's view; closing the original closes both."""
    with workspace() as (_, client):
        with client.with_token("other") as copy:
            copy.get_account()
        assert copy.get_account().org_id
        assert client.get_account().org_id
        client.close()
        with pytest.raises(ClientClosedError):
            copy.get_account()


def test_with_token_wants_a_token() -> None:
    """An empty token or none is refused by name."""
    with workspace() as (_, client):
        with pytest.raises(ArgumentValueError, match="token"):
            client.with_token("")
        with pytest.raises(ArgumentTypeError, match="token"):
            client.with_token(None)  # type: ignore[arg-type]


def test_forgotten_client_warns() -> None:
    """A client that was used and not closed warns when it is collected."""
    fake = FakeButtDialServer()
    with fake.mocked(BASE_URL):
        client = AccountsClient(BASE_URL, team_token=TEAM_TOKEN)
        client.with_token("other").get_account()
        with pytest.warns(ResourceWarning, match="was not closed") as caught:
            client._connection.__del__()
        client.close()
    assert TEAM_TOKEN not in str(caught[0].message)


def test_unused_client_does_not_warn() -> None:
    """A client without a connection leaves nothing open; neither does a copy."""
    with warnings.catch_warnings(record=True) as caught, workspace() as (_, client):
        warnings.simplefilter("always")
        AccountsClient(BASE_URL)
        client.get_account()
        client.with_token("other").get_account()
        gc.collect()
    assert [str(each.message) for each in caught] == []


@pytest.mark.parametrize(
    ("name", "arguments", "advice"),
    [
        ("register", ("Acme", "o@example.com"), "webhook_url"),
        ("onboard", ("Bot",), "register_agent"),
        ("provision_channels", ("a", "Bot", {}), "manage_agent_channel"),
    ],
)
def test_deprecations_point_at_the_caller(
    name: str, arguments: tuple[Any, ...], advice: str
) -> None:
    """The warning names the way out, and the line that has to change: this file's."""
    with workspace() as (_, client), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(client, name)(*arguments)
    (warning,) = caught
    assert warning.category is DeprecationWarning
    assert Path(warning.filename) == Path(__file__)
    assert advice in str(warning.message)


def test_deprecation_as_an_error_sends_nothing() -> None:
    """Under ``-W error`` a deprecated method raises before anything leaves."""
    with workspace() as (fake, client):
        with pytest.raises(DeprecationWarning):
            client.onboard("Bot")
        assert fake.requests == []


@pytest.mark.parametrize("option", ["branding", "return_url", "webhook_url", "verification_email"])
def test_register_with_any_option_is_not_deprecated(option: str) -> None:
    """One of the four is enough."""
    values: dict[str, Any] = {"branding": {"productName": "x"}, "verification_email": {}}
    with workspace() as (_, client):
        client.register("Acme", "o@x.example", **{option: values.get(option, "https://h")})


def test_refused_prompts_do_not_confirm() -> None:
    """A prompt that returns no text ends the rotation before it is confirmed."""
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/me/rotate-token/request", {"challenge_id": "c"})
        for wrong, kind in ((None, ArgumentTypeError), ("", ArgumentValueError)):
            with pytest.raises(kind, match="otp"):
                client.rotate_token(lambda _hint, wrong=wrong: wrong)  # type: ignore[misc]
        assert {request.path for request in fake.requests} == {"/api/orgs/me/rotate-token/request"}
