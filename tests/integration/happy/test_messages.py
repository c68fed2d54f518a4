"""Sending and reading messages over real sockets."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest

from buttdial_sync.errors import OutcomeUnknownError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import BrokenConnection, Reply, Request, json_response
from tests.integration.happy.conftest import client_of

RESET = BrokenConnection("reset")


def filled(server: FakeHappyServer, count: int, length: int = 10) -> str:
    """A session with messages of an agent; numbers are missing, as on a real server."""
    process = server.add_session()
    for number in range(count):
        process.session.seq += number % 7 == 0
        process.write_event({"t": "text", "text": f"{number}".ljust(length)}, "turn")
    return process.session.id


def texts(messages: object) -> list[int]:
    return [int(each.content["content"]["ev"]["text"]) for each in messages]  # type: ignore[attr-defined]


def test_ten_thousand_messages(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """All are seen, in order, none twice; the published SDK sees the last 150."""
    session_id = filled(happy_server, 10_000)
    assert texts(client.iter_messages(session_id)) == list(range(10_000))
    newest = client.get_messages(session_id, limit=700)
    assert texts(newest) == list(range(9_300, 10_000))
    assert texts(client.get_messages(session_id, after_seq=newest[0].seq)) == list(
        range(9_301, 10_000)
    )
    both = client.get_messages(session_id, after_seq=newest[-3].seq, limit=10)
    assert texts(both) == [9_998, 9_999]
    assert client.get_messages(session_id, limit=0) == []


def test_memory_stays_flat(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Going through many messages holds one page of them, however many there are."""
    session_id = filled(happy_server, 3_000, length=2_000)

    def peak(pages: int) -> int:
        tracemalloc.start()
        for number, _ in enumerate(client.iter_messages(session_id), 1):
            if number == pages * 500:
                break
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(6) < 2 * peak(2)


def test_the_fields_of_a_message(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A message that was sent comes back with what was said about it."""
    session_id = happy_server.add_session().session.id
    sent = client.send_message(
        session_id,
        "Grüße ☃",
        "plan",
        model="opus",
        fallback_model="sonnet",
        system_prompt="a",
        append_system_prompt="b",
        allowed_tools=["Read"],
        disallowed_tools=(),
        local_id="mine",
    )
    message = client.get_messages(session_id)[0]
    assert (message.id, message.seq, message.local_id) == (sent.id, sent.seq, "mine")
    assert message.role == "user"
    assert message.content == {
        "role": "user",
        "content": {"type": "text", "text": "Grüße ☃"},
        "meta": {
            "sentFrom": "buttdial-sync",
            "permissionMode": "plan",
            "model": "opus",
            "fallbackModel": "sonnet",
            "customSystemPrompt": "a",
            "appendSystemPrompt": "b",
            "allowedTools": ["Read"],
            "disallowedTools": [],
        },
    }


def test_a_damaged_message(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """One message that cannot be decrypted spoils none of the others."""
    session_id = filled(happy_server, 3)
    happy_server.store.sessions[session_id].messages[1].sealed = "AAAA"
    messages = client.get_messages(session_id)
    assert [message.unreadable is None for message in messages] == [True, False, True]
    assert messages[1].content is None


def first(
    fault: Reply, times: int = 1, stored: FakeHappyServer | None = None
) -> Callable[[Request], Reply | None]:
    """A fault of the first POSTs; with ``stored`` they are carried out all the same."""
    left = [times]

    def reply(request: Request) -> Reply | None:
        if request.method != "POST" or not left[0]:
            return None
        left[0] -= 1
        if stored is not None:
            stored._rest.answer(request)
        return fault

    return reply


@pytest.mark.parametrize("is_stored", [False, True], ids=["not stored", "stored"])
@pytest.mark.parametrize("fault", [RESET, json_response(502, {}), json_response(503, {})])
def test_a_lost_answer(happy_server: FakeHappyServer, fault: Reply, is_stored: bool) -> None:
    """The message is sent again with the same id, and the agent gets it once."""
    session_id = happy_server.add_session().session.id
    happy_server.faults.append(first(fault, stored=happy_server if is_stored else None))
    with client_of(happy_server, sleep=lambda _: None) as client:
        sent = client.send_message(session_id, "once")
    assert happy_server.prompts(session_id) == ["once"]
    assert sent.seq == 1
    assert sum(request.method == "POST" for request in happy_server.requests) == 2


@pytest.mark.parametrize("is_stored", [False, True], ids=["not stored", "stored"])
def test_an_unknown_outcome(happy_server: FakeHappyServer, is_stored: bool) -> None:
    """When every answer is lost that is said, and sending again with the id is safe."""
    session_id = happy_server.add_session().session.id
    happy_server.faults.append(first(RESET, 3, stored=happy_server if is_stored else None))
    with client_of(happy_server, sleep=lambda _: None) as client:
        with pytest.raises(errors.MessageOutcomeUnknownError) as caught:
            client.send_message(session_id, "once")
        assert isinstance(caught.value, OutcomeUnknownError | errors.MessageDeliveryError)
        assert (caught.value.outcome, caught.value.session_id) == ("unknown", session_id)
        assert caught.value.local_id is not None
        client.send_message(session_id, "once", local_id=caught.value.local_id)
    assert happy_server.prompts(session_id) == ["once"]


def test_a_refused_message(happy_server: FakeHappyServer) -> None:
    """The server's own no is a delivery error that says so."""
    session_id = happy_server.add_session().session.id
    refusal = json_response(400, {"error": "the message is too long"})
    happy_server.faults.append(first(refusal, 9))
    with client_of(happy_server, sleep=lambda _: None) as client:
        with pytest.raises(errors.MessageDeliveryError, match="too long") as caught:
            client.send_message(session_id, "hello")
        assert (caught.value.status_code, caught.value.outcome) == (400, "rejected")
        assert not isinstance(caught.value, OutcomeUnknownError)
        with pytest.raises(errors.HappyConfigError):
            client.send_message(session_id, "")


def test_an_answer_that_proves_nothing(happy_server: FakeHappyServer) -> None:
    """A success without the message's number is an unknown outcome, not a success."""
    session_id = happy_server.add_session().session.id
    happy_server.faults.append(first(json_response(200, {"messages": []}), 9))
    with client_of(happy_server) as client, pytest.raises(errors.MessageOutcomeUnknownError):
        client.send_message(session_id, "hello")


def test_connections(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A hundred messages take two connections at most; the published SDK opens 300."""
    session_id = happy_server.add_session().session.id
    for number in range(100):
        client.send_message(session_id, str(number))
    assert happy_server.connections <= 2
    assert happy_server.prompts(session_id) == [str(number) for number in range(100)]


def test_a_server_that_ignores_the_cursor(
    happy_server: FakeHappyServer, client: HappyClient
) -> None:
    """The same page again and again ends the iteration instead of going on without an end."""
    session_id = filled(happy_server, 5)

    def ignore(request: Request) -> Reply | None:
        if not request.path.endswith("/messages"):
            return None
        request.query.clear()  # type: ignore[attr-defined]
        answer = happy_server._rest.answer(request)
        return json_response(200, {**json.loads(answer.body), "hasMore": True})

    happy_server.faults.append(ignore)
    assert len(client.get_messages(session_id)) == 5
