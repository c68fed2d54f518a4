"""What an error leaves alive: nothing."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import responses

from buttdial_sync import (
    AccountsClient,
    ButtDialError,
    Client,
    ComplianceError,
    OutcomeUnknownError,
    RateLimitError,
    TransportError,
)
from buttdial_sync.testing import FakeButtDialServer

URL = "https://butt-dial.test"
TOKEN = "agent-token-1"


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    fake = FakeButtDialServer(tokens=[TOKEN])
    with fake.mocked():
        yield fake


def raises_of(client: Client) -> None:
    for call in (
        lambda: client.call_tool("comms_nothing"),
        lambda: client.whatsapp.react("m", "x"),
        client.profile.get,
        lambda: client.list_tools(agent_token="wrong"),
        lambda: client.as_agent("wrong").ping(),
    ):
        with suppress(ButtDialError):
            call()


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:9"])
def test_client_after_errors(url: str) -> None:
    """A client whose calls failed is freed when the last reference goes."""
    responses.mock.add_passthru("http://127.0.0.1:9")  # it keeps what it was asked, frames too
    client = Client(url, agent_token=TOKEN, sleep=lambda _: None, max_attempts=2)
    raises_of(client)
    result = client.send_message("+14155550123", "text", "sms")
    client.close()
    gone: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client._agent.connection)]
    del client
    assert [each() for each in gone] == [None, None]
    assert result.attempts >= 1


def test_client_after_a_mistake_in_many_messages(fake: FakeButtDialServer) -> None:
    """The results that are thrown away with the error do not keep it alive."""
    client = Client(URL, agent_token=TOKEN)
    with suppress(TypeError):
        client.send_many(["+14155550123"] * 5, 5)  # type: ignore[arg-type]
    client.close()
    gone = weakref.ref(client._agent.connection)
    del client
    assert gone() is None
    assert fake.sent_messages == []


def test_client_whose_session_was_forgotten(fake: FakeButtDialServer) -> None:
    """The refusal ends the session, which must not keep it: its frames hold the client."""
    client = Client(URL, agent_token=TOKEN, sleep=lambda _: None)
    client.ping()
    fake.fault("status", on="post", status=404, body={"error": "Session not found"}, count=2)
    result = client.send_message("+14155550123", "text", "sms")
    client.close()
    gone: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client._agent.connection)]
    del client
    assert [each() for each in gone] == [None, None]
    assert (result.outcome, result.attempts) == ("sent", 3)


def test_log_keeps_no_error(fake: FakeButtDialServer, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that keeps the records keeps texts, and not the errors with their frames."""
    caplog.set_level("DEBUG", "buttdial_sync")
    client = Client(URL, agent_token=TOKEN, sleep=lambda _: None)
    client.ping()
    fake.fault("status", on="post", status=404, body={"error": "Session not found"}, count=2)
    assert client.send_message("+14155550123", "text", "sms").ok
    fake.fault("cut", on="call")
    fake.fault("refuse", on="stream")
    assert client.send_message("+14155550123", "text", "sms").unknown
    client.close()
    kept = [arg for record in caplog.records for arg in record.args or ()]
    assert [arg for arg in kept if isinstance(arg, BaseException)] == []
    assert {record.funcName for record in caplog.records} == {
        "_tell_retry",
        "_tools_if_known",
        "_leave",
        "_end",
    }


def test_accounts_client_after_errors(fake: FakeButtDialServer) -> None:
    """The same of a workspace's client."""
    client = AccountsClient(URL, team_token="wrong", sleep=lambda _: None)
    with suppress(ButtDialError):
        client.get_account()
    with suppress(ButtDialError):
        client.with_token("other").list_my_memberships()
    with suppress(ButtDialError):
        client.register_agent("a", "A")
    for answer in ({"orgId": ["no text"]}, {"orgId": "o", "pollToken": {"no": "text"}}):
        fake.on_rest("POST", "/api/orgs/register", answer, public=True)
        with suppress(ButtDialError):
            client.register("Shop", "ann@shop.example", return_url="https://shop.example/")
    client.close()
    gone: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client._connection)]
    del client
    assert [each() for each in gone] == [None, None]
    assert fake.requests


def test_result_keeps_the_exception_and_nothing_else(fake: FakeButtDialServer) -> None:
    """It holds no frame: no traceback, no cause, no context. It is not in the ``repr``."""
    fake.on_send(error="Compliance: no consent")
    with Client(URL, agent_token=TOKEN) as client:
        result = client.send_message("+14155550123", "text", "sms")
    error = result.exception
    assert isinstance(error, ComplianceError)
    assert (error.message, error.outcome, error.remediation) == (
        result.error,
        result.outcome,
        result.remediation,
    )
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert "exception" not in repr(result)
    assert "ComplianceError(" not in repr(result)


def test_result_with_an_exception_pickles(fake: FakeButtDialServer) -> None:
    """A result crosses process boundaries with its exception, and is equal to what it was."""
    fake.fault("refuse", count=9)
    with Client(URL, agent_token=TOKEN, sleep=lambda _: None) as client:
        result = client.send_message("+14155550123", "text", "sms")
    copy = pickle.loads(pickle.dumps(result))  # noqa: S301
    assert copy == result
    assert isinstance(copy.exception, TransportError)
    assert copy.exception.code == result.error_code


def test_exception_of_an_unknown_outcome_does_not_advise_to_repeat(
    fake: FakeButtDialServer,
) -> None:
    """Where the last attempt was refused, and an earlier one may have been carried out."""
    fake.fault("reset", on="call", delivered=True)
    later = {"error": "later", "code": "RATE_LIMITED", "retryable": True, "retryAfterSeconds": 600}
    fake.fault("status", on="call", status=503, body=later)
    with Client(URL, agent_token=TOKEN, sleep=lambda _: None) as client:
        result = client.send_message("+14155550123", "text", "sms")
    assert (result.outcome, result.attempts) == ("unknown", 2)
    error = result.exception
    assert isinstance(error, RateLimitError)
    assert (error.outcome, error.retryable) == ("unknown", None)
    assert error.remediation == result.remediation == OutcomeUnknownError.remedy


def test_sent_has_no_exception(fake: FakeButtDialServer) -> None:
    """Where nothing went wrong there is none."""
    with Client(URL, agent_token=TOKEN) as client:
        assert client.send_message("+14155550123", "text", "sms").exception is None
    assert len(fake.sent_messages) == 1
