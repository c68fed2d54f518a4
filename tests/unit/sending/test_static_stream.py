"""A client against a body written by hand, with nothing but ``responses``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import responses

from buttdial_sync import Client, OutcomeUnknownError, ToolError

BASE_URL = "https://static.test"
TOKEN = "agent-secret-1"


def event(name: str, data: str, ending: str = "\n") -> str:
    return f"event: {name}{ending}data: {data}{ending}{ending}"


def answer(number: int, result: object = None, **more: Any) -> str:
    body = {"jsonrpc": "2.0", "id": number, **more}
    if result is not None:
        body["result"] = result
    return event("message", json.dumps(body))


def text(value: object) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(value)}]}


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as running:
        running.post(f"{BASE_URL}/messages", status=202)
        yield running


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE_URL, agent_token=TOKEN, timeout=2.0, max_attempts=1) as made:
        yield made


def serve(mock: responses.RequestsMock, *events: str) -> None:
    body = event("endpoint", "/messages?sessionId=1") + "".join(events)
    mock.get(f"{BASE_URL}/sse", body=body.encode(), content_type="text/event-stream")


def test_finished_body(mock: responses.RequestsMock, client: Client) -> None:
    """The endpoint and the answers with ids 1, 2, … in one finished body are enough."""
    serve(
        mock, answer(1, {}), answer(2, text({"messageId": "SM1"})), answer(3, text({"sid": "S2"}))
    )
    assert client.send_message("+1", "one").message_sid == "SM1"
    assert client.send_message("+1", "two").message_sid == "S2"
    posted = [json.loads(call.request.body or b"{}") for call in mock.calls if call.request.body]
    assert [(message["method"], message.get("id")) for message in posted] == [
        ("initialize", 1),
        ("notifications/initialized", None),
        ("tools/call", 2),
        ("tools/call", 3),
    ]
    assert posted[0]["params"]["protocolVersion"] == "2025-11-25"


def test_headers(mock: responses.RequestsMock, client: Client) -> None:
    """The token travels as a bearer, to the one origin, with our user agent and no cookies."""
    serve(mock, answer(1, {}), answer(2, text({})))
    client.call_tool("comms_ping")
    for call in mock.calls:
        headers = call.request.headers
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["User-Agent"].startswith("buttdial-sync/")
        assert headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in headers
        assert TOKEN not in str(call.request.url)


def test_null_error_is_no_error(mock: responses.RequestsMock, client: Client) -> None:
    """Some servers write ``"error": null`` beside the result."""
    serve(mock, answer(1, {}, error=None), answer(2, text({"messageId": "SM1"}), error=None))
    assert client.send_message("+1", "hi").message_sid == "SM1"


@pytest.mark.parametrize("error", ["text", 5, [], {}, {"message": None}, {"message": {"a": 1}}])
def test_odd_jsonrpc_errors(error: object, mock: responses.RequestsMock, client: Client) -> None:
    """A JSON-RPC error of any shape is a ``ToolError`` with a text."""
    serve(mock, answer(1, {}), answer(2, error=error))
    with pytest.raises(ToolError) as caught:
        client.call_tool("comms_ping")
    assert str(caught.value)


@pytest.mark.parametrize("result", [5, "x", [], True])
def test_odd_results(result: object, mock: responses.RequestsMock, client: Client) -> None:
    """A result that is no object leaves it unknown what became of the call."""
    serve(mock, answer(1, {}), answer(2, result))
    with pytest.raises(OutcomeUnknownError):
        client.call_tool("comms_ping")


@pytest.mark.parametrize(
    "result",
    [
        {"content": []},
        {"content": 5},
        {"content": None},
        {"content": [{"type": "image", "data": "x"}]},
        {"content": [{"type": "text", "text": 5}]},
        {"content": ["text"]},
    ],
)
def test_content_without_text(result: object, mock: responses.RequestsMock, client: Client) -> None:
    """A result whose content holds no text is no answer."""
    serve(mock, answer(1, {}), answer(2, result))
    assert client.send_message("+1", "hi").outcome == "unknown"


def test_structured_content(mock: responses.RequestsMock, client: Client) -> None:
    """Structured content is used where there is no text."""
    serve(mock, answer(1, {}), answer(2, {"content": [], "structuredContent": {"a": 1}}))
    assert client.call_tool("comms_ping") == {"a": 1}


def test_noise_on_the_stream(mock: responses.RequestsMock, client: Client) -> None:
    """Comments, foreign events, lists, notifications and answers to nobody do no harm."""
    noise = (
        ": ping\n\n"
        + event("other", "not json")
        + event("message", "[1, 2]")
        + event("message", "5")
        + event("message", '{"jsonrpc": "2.0", "method": "notifications/message"}')
        + event("message", '{"jsonrpc": "2.0", "id": "x", "result": {}}')
        + event("message", '{"jsonrpc": "2.0", "result": {}}')
    )
    serve(mock, noise, answer(1, {}), noise, answer(2, text({"messageId": "SM1"})), noise)
    assert client.send_message("+1", "hi").message_sid == "SM1"


@pytest.mark.parametrize(
    "listing",
    [
        {},
        {"tools": None},
        {"tools": 5},
        {"tools": "x"},
        {"tools": {"a": 1}},
        {"tools": [], "nextCursor": {"a": 1}},
        {"tools": [], "nextCursor": 5},
        {"tools": [5, None]},
    ],
)
def test_odd_lists_of_tools(listing: object, mock: responses.RequestsMock, client: Client) -> None:
    """A list of tools of another shape is empty, or one of our errors."""
    serve(mock, answer(1, {}), answer(2, listing), *(answer(n, {"tools": []}) for n in range(3, 9)))
    result = client.send_message("+1", "hi", media_url="https://x.test/a.png")
    assert result.outcome == "not_sent"


def test_cursor_that_repeats(mock: responses.RequestsMock, client: Client) -> None:
    """A server whose pages go round in a circle does not hold the caller."""
    page = {"tools": [{"name": "comms_ping"}], "nextCursor": "a"}
    serve(mock, answer(1, {}), *(answer(number, page) for number in range(2, 10)))
    assert {tool.name for tool in client.list_tools()} == {"comms_ping"}
    assert len(mock.calls) <= 5


def test_lost_answer_in_a_finished_body(mock: responses.RequestsMock, client: Client) -> None:
    """A body that ends before the answer is a lost session: not sent, and no hang."""
    serve(mock, answer(1, {}))
    assert client.send_message("+1", "hi").outcome == "not_sent"


def test_truncated_answer(mock: responses.RequestsMock, client: Client) -> None:
    """Half an answer at the end of a body is no answer."""
    serve(mock, answer(1, {}), answer(2, text({"messageId": "SM1"}))[:40])
    assert client.send_message("+1", "hi").outcome in {"not_sent", "unknown"}
