"""No secret leaves: not in a repr, not in a log, not in an exception, not to a wrong place."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from buttdial_sync import AccountsClient, ArgumentValueError, ButtDialError, ConfigError, ToolResult
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_fault
from tests.leaks import leaks_of

from .workspaces import BASE_URL, TEAM_TOKEN, workspace

pytestmark = pytest.mark.filterwarnings(r"ignore:.*is deprecated:DeprecationWarning")


def secret(kind: str) -> str:
    """Made here, so that no line of source that a traceback shows has it."""
    return "-".join((kind, "s3cret"))


Call = Callable[[AccountsClient], object]

CALLS: Mapping[str, Call] = {
    "team token": lambda client: client.get_account(),
    "link": lambda client: client.verify(secret("link")),
    "poll token": lambda client: client.verification_status("o", secret("poll")),
    "poll token as credential": lambda client: client.abandon_org("o", poll_token=secret("poll")),
    "webhook secret": lambda client: client.reveal_team_token("o", secret("hook")),
    "passcode": lambda client: client.rotate_token_confirm("c", secret("otp")),
    "extra": lambda client: client.register_agent("a", "Bot", providerToken=secret("extra")),
    "erasure": lambda client: client.confirm_erasure(secret("erase")),
}


def everything_about(error: BaseException) -> str:
    """All that a person or a tracker sees of an error, those that it hides included."""
    seen = []
    current: BaseException | None = error
    while current is not None:
        seen += [repr(current), repr(vars(current))]
        current = current.__cause__ or current.__context__
    return "\n".join([*seen, *traceback.format_exception(error)])


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_servers_that_echo_are_silenced(
    name: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal that repeats the whole request has no secret any more when it is raised."""
    caplog.set_level(logging.DEBUG)
    fake = FakeButtDialServer()
    echo = [
        ("POST", "/api/v1/agents"),
        ("POST", "/api/orgs/{a}"),
        ("POST", "/api/orgs/{a}/{b}"),
        ("POST", "/api/orgs/{a}/{b}/{c}"),
        ("GET", "/api/orgs/{a}"),
        ("GET", "/api/orgs/{a}/{b}"),
    ]
    for method, path in echo:
        fake.on_rest(
            method,
            path,
            lambda request: {
                "error": f"no: {request.body!r} {request.query} {request.bearer}",
                "nested": [{"body": request.body.decode(), "bearer": request.bearer}],
            },
            status=status,
            public=True,
        )
    with workspace(fake) as (_, client), pytest.raises(ButtDialError) as caught:
        CALLS[name](client)
    assert "s3cret" not in everything_about(caught.value)
    assert "s3cret" not in caplog.text
    assert caught.value.status_code == status


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("fault", ["refuse", "reset", "html", "redirect"])
def test_broken_connections_hold_no_secret(
    name: str, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What requests and urllib3 raise has the whole URL in it; what is raised here has not."""
    caplog.set_level(logging.DEBUG)
    with workspace() as (fake, client):
        add_fault(fake, fault, on="rest", count=3)
        with pytest.raises(ButtDialError) as caught:
            CALLS[name](client)
    assert "s3cret" not in everything_about(caught.value)
    assert "s3cret" not in caplog.text


def test_url_of_a_real_connection_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs each URL at DEBUG; the poll token in it is masked."""
    caplog.set_level(logging.DEBUG)
    fake = FakeButtDialServer()
    with fake.listen() as loopback, AccountsClient(loopback.base_url) as client:
        registered = client.register("Acme", "o@example.com", return_url="https://h")
        client.verification_status(registered.org_id, str(registered.poll_token))
    assert "verification-status" in caplog.text
    assert str(registered.poll_token) not in caplog.text


def test_poll_token_goes_into_no_url_that_others_can_read() -> None:
    """Over plain http to another machine the call is refused before it is sent."""
    with AccountsClient("http://butt-dial.test") as client:
        with pytest.raises(ConfigError, match="poll_token") as caught:
            client.verification_status("o", secret("poll"))
        assert "https" in str(caught.value.remediation)
        assert "s3cret" not in everything_about(caught.value)


def test_results_hide_their_secrets() -> None:
    """The repr of a result shows no token, though its attributes have it."""
    with workspace() as (fake, client):
        registered = client.register("Acme", "o@example.com", webhook_url="https://h")
        verified = client.verify(fake.workspace.verification_token(registered.org_id))
        made = client.register_agent("a", "Bot")
        provisioned = client.provision_channels("a", "Bot", {"phone": True})
        regenerated = client.regenerate_agent_token("a")
        revealed = client.reveal_team_token(registered.org_id, str(registered.webhook_secret))
    secrets = [
        registered.poll_token,
        registered.webhook_secret,
        verified.team_token,
        made.agent_token,
        provisioned.agent_token,
        regenerated.agent_token,
        revealed.team_token,
    ]
    shown = repr([registered, verified, made, provisioned, regenerated, revealed])
    assert all(secret and secret not in shown for secret in secrets)


def test_answers_without_a_shape_hide_all_values() -> None:
    """What no document describes may hold anything, so its repr shows keys only."""
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/me/tokens/revoke", {"newToken": "new-s3cret"})
        answer = client.revoke_token()
    assert isinstance(answer, ToolResult)
    assert answer["new_token"] == answer["newToken"] == "new-s3cret"
    assert "s3cret" not in repr(answer)
    assert "newToken" in repr(answer)


def test_token_of_an_answer_in_a_wrong_shape_is_not_shown() -> None:
    """An answer that cannot be read is in the error, without the token that it has."""
    answer = {"pollToken": "new-s3cret", "orgId": ["x"], "nested": {"agent_token": "x-s3cret"}}
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/register", answer, public=True)
        with pytest.raises(ButtDialError, match="org_id") as caught:
            client.register("Shop", "ann@shop.example")
    assert "s3cret" not in everything_about(caught.value)
    assert leaks_of(caught.value, "new-s3cret", "x-s3cret") == []
    assert caught.value.outcome == "sent"
    assert caught.value.body["orgId"] == ["x"]


def test_token_beside_an_odd_field_is_not_lost() -> None:
    """The old tokens are dead, and the new one is shown only once."""
    with workspace() as (fake, client):
        odd = {"token": "new-s3cret", "revokedCount": "1"}
        fake.on_rest("POST", "/api/v1/agents/{agent_id}/regenerate-token", odd)
        new = client.regenerate_agent_token("a")
        assert (new.agent_token, new.revoked_count) == ("new-s3cret", None)
        fake.on_rest("POST", "/api/v1/agents", {"token": "agent-s3cret", "success": 1})
        assert client.register_agent("a", "Maya").agent_token == "agent-s3cret"
        odd = {"orgId": "o", "verificationSent": "queued", "pollToken": "p", "webhookSecret": "w"}
        fake.on_rest("POST", "/api/orgs/register", odd, public=True)
        registered = client.register("Shop", "a@b.example", webhook_url="https://x.example/")
    assert (registered.poll_token, registered.webhook_secret) == ("p", "w")


def test_client_does_not_show_its_token() -> None:
    """The repr has the server, not the token."""
    with AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client:
        assert repr(client) == f"AccountsClient({BASE_URL!r})"
        assert repr(client.with_token(secret("other"))) == f"AccountsView({BASE_URL!r})"
        assert "s3cret" not in repr(vars(client))


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"base_url": "ftp://x"}, {"max_attempts": 0}])
@pytest.mark.parametrize("given", ["mapping", "os.environ", "override"])
def test_environment_is_not_shown(
    given: str, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the token nor the rest of it, in no frame of a constructor that raises."""
    environ = {
        "BUTT_DIAL_BASE_URL": BASE_URL,
        "BUTT_DIAL_TEAM_TOKEN": secret("team"),
        "DATABASE_URL": secret("host"),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    calls: dict[str, Callable[..., AccountsClient]] = {
        "mapping": lambda **wrong: AccountsClient.from_env(environ, **wrong),
        "os.environ": AccountsClient.from_env,
        "override": lambda **wrong: AccountsClient.from_env(team_token=secret("team"), **wrong),
    }
    with pytest.raises(ButtDialError) as caught:
        calls[given](**wrong)
    assert leaks_of(caught.value, "s3cret") == []


@pytest.mark.parametrize("token", ["tok…s3cret", "s3cret\r\nX-Evil: 1", "s3cret\x00"])
def test_token_that_no_header_can_hold(token: str) -> None:
    """A placeholder or a line break in a token is refused, and not shown."""
    with pytest.raises(ArgumentValueError, match="team_token") as caught:
        AccountsClient(BASE_URL, team_token=token)
    assert "s3cret" not in everything_about(caught.value).replace(repr(token), "")
    with AccountsClient(BASE_URL) as client:
        with pytest.raises(ArgumentValueError, match="idempotency_key"):
            client.register("Acme", "o@example.com", idempotency_key=token)
        with pytest.raises(ArgumentValueError, match="webhook_secret"):
            client.reveal_team_token("o", token)


def test_token_goes_nowhere_else() -> None:
    """A redirect is not followed, so no other server gets the token."""
    other = FakeButtDialServer()
    with other.listen() as elsewhere, workspace() as (fake, client):
        add_fault(fake, "redirect", on="rest", location=f"{elsewhere.base_url}/api/orgs/me")
        with pytest.raises(ButtDialError, match="redirects"):
            client.get_account()
    assert other.requests == []
