"""Operations on their way to the server: how many requests, what is repeated, what is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    Client,
    ClientClosedError,
    ClientEvent,
    ConfigError,
    OutcomeUnknownError,
    StreamLostError,
    ToolNotAvailable,
)
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_fault, page_tools, set_tools

Make = Callable[..., Client]
HANDSHAKE = 2


def asked_for_tools(fake: FakeButtDialServer) -> int:
    posts = [each.json for each in fake.requests if each.method == "POST"]
    return sum(post.get("method") == "tools/list" for post in posts)


class TestRequests:
    """One POST per call; the schema is asked for where something is doubtful, once."""

    def test_nothing_doubtful(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A call that every server understands costs one POST."""
        client.voice.make_call("+14155550123")
        client.voice.make_call("+14155550123", target_gender="female")
        client.billing.summary()
        assert hosted.posts == HANDSHAKE + 3

    def test_schema_is_fetched_once(self, hosted: FakeButtDialServer, client: Client) -> None:
        """However many calls need it."""
        client.voice.make_call("+14155550123", greeting="Hello")
        client.whatsapp.typing("+14155550123")
        client.trust.check("+14155550123")
        assert asked_for_tools(hosted) == 1
        assert hosted.posts == HANDSHAKE + 1 + 3

    def test_unchecked(self, open_source: FakeButtDialServer, make_client: Make) -> None:
        """``check_schema=False`` sends the hosted names as they are, and asks nothing."""
        client = make_client(check_schema=False)
        with pytest.raises(ToolNotAvailable):
            client.organization.create_team("A", "a", settings={"x": 1})
        assert asked_for_tools(open_source) == 0
        assert open_source.calls[0].tool == "comms_create_team"
        assert open_source.calls[0].args == {"name": "A", "slug": "a", "settings": {"x": 1}}

    def test_rest_opens_no_session(self, hosted: FakeButtDialServer, client: Client) -> None:
        """REST operations do without a stream."""
        client.inbox.waiting()
        assert (hosted.streams_opened, len(hosted.requests)) == (0, 1)

    def test_schema_that_changed(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """A server that announces new tools is asked again."""
        client = make_client(token_in="auto")
        set_tools(hosted, ["comms_ping"])
        with pytest.raises(ToolNotAvailable):
            client.otp.verify("123456", to="+1")
        set_tools(hosted, ["comms_verify_otp"], announce=True)
        assert client.ping() >= 0  # its answer comes after the announcement
        assert client.otp.verify("123456", to="+1").valid

    def test_pages(self, make_client: Make) -> None:
        """The schema may come in pages."""
        fake = FakeButtDialServer()
        page_tools(fake, 3)
        with fake.mocked():
            client = make_client(token_in="auto")
            client.whatsapp.typing("+14155550123")
            client.close()
        assert asked_for_tools(fake) > 1

    def test_carriage_returns(self, open_source: FakeButtDialServer, client: Client) -> None:
        """One of the servers rejects them, so texts go without."""
        client.voice.send_message("+1", "one\r\ntwo\rthree")
        assert open_source.calls[0].args["text"] == "one\ntwo\nthree"

    def test_events_name_the_operation(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """``on_event`` is told the tool's name, or method and path."""
        events: list[ClientEvent] = []
        client = make_client(token_in="auto", on_event=events.append)
        client.voice.make_call("+1")
        client.inbox.waiting()
        assert {event.operation for event in events if event.kind == "attempt"} == {
            "comms_make_call",
            "GET /api/v1/waiting-messages",
        }


class TestArguments:
    """What cannot be sent is refused first."""

    @pytest.mark.parametrize("value", [b"bytes", object(), {"a": {1, 2}}, [b"x"]])
    def test_no_json(self, hosted: FakeButtDialServer, client: Client, value: Any) -> None:
        """A value that JSON cannot hold is a wrong type; the message does not show it."""
        with pytest.raises(ArgumentTypeError, match="extra") as caught:
            client.whatsapp.action("react", extra=value)
        assert "bytes'" not in str(caught.value)
        assert hosted.requests == []

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_no_number(self, hosted: FakeButtDialServer, client: Client, value: float) -> None:
        """JSON has no such numbers."""
        with pytest.raises(ArgumentValueError, match="lat"):
            client.whatsapp.send_location("+1", value, 1.0)
        assert hosted.requests == []

    def test_tuples(self, hosted: FakeButtDialServer, client: Client) -> None:
        """Any sequence is a list on the wire."""
        client.whatsapp.send_poll("+1", "Which?", ("a", "b"))
        assert hosted.calls[0].args["options"] == ["a", "b"]

    def test_no_token(self, make_client: Make) -> None:
        """Without a token nothing is sent, and the message says what to do."""
        with pytest.raises(ConfigError, match="agent_token") as caught:
            make_client(agent_token=None).voice.make_call("+1")
        assert "BUTT_DIAL_AGENT_TOKEN" in str(caught.value.remediation)

    def test_closed(self, make_client: Make) -> None:
        """A closed client refuses, over both ways."""
        client = make_client()
        client.close()
        for call in (client.profile.me, client.profile.get):
            with pytest.raises(ClientClosedError):
                call()


class TestRepeating:
    """What was lost is repeated only where it does no harm."""

    def test_lost_write(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A call whose answer was lost is not made again; the error says so."""
        hosted.fault("cut", tool="comms_make_call")
        with pytest.raises(OutcomeUnknownError, match="comms_make_call may have been carried out"):
            client.voice.make_call("+1")
        assert len(hosted.calls) == 1

    def test_lost_read(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A reading is repeated."""
        hosted.fault("cut", tool="comms_get_message_status", count=2)
        hosted.on_tool("comms_get_message_status", {"status": "read"})
        assert client.inbox.message_status("SM1")["status"] == "read"
        assert len(hosted.calls) == 3

    def test_read_that_stays_lost(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A reading that fails for good has changed nothing: no unknown outcome is claimed."""
        hosted.fault("cut", tool="comms_get_me", count=5)
        with pytest.raises(StreamLostError):
            client.profile.me()
        assert len(hosted.calls) == 3

    def test_not_sent(self, hosted: FakeButtDialServer, client: Client) -> None:
        """What the server never had is sent again."""
        hosted.fault("refuse", on="call", count=2)
        client.voice.make_call("+1")
        assert len(hosted.calls) == 1

    def test_lost_schema(self, hosted: FakeButtDialServer, client: Client) -> None:
        """When the question for the schema is lost, the operation has not left: it goes on."""
        client.ping()
        hosted.fault("cut", on="post")
        client.whatsapp.typing("+1")
        assert [call.tool for call in hosted.calls] == ["comms_whatsapp_action"]

    def test_schema_that_stays_lost(self, hosted: FakeButtDialServer, client: Client) -> None:
        """Then the operation was not carried out, for certain."""
        client.ping()
        hosted.fault("cut", on="post", count=5)
        with pytest.raises(StreamLostError) as caught:
            client.whatsapp.typing("+1")
        assert caught.value.outcome == "not_sent"
        assert hosted.calls == []

    def test_rest_read(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A GET is repeated after a server's failure."""
        hosted.on_rest("GET", "/api/v1/agents/me", {"agentId": "a-1"})
        hosted.fault("status", on="rest", status=502)
        hosted.fault("reset", on="rest")
        assert client.profile.get().agent_id == "a-1"

    def test_rest_write(self, hosted: FakeButtDialServer, client: Client) -> None:
        """A PUT is not."""
        hosted.on_rest("PUT", "/api/v1/client-status", {})
        hosted.fault("status", on="rest", status=502)
        with pytest.raises(OutcomeUnknownError, match="PUT /api/v1/client-status"):
            client.profile.set_status("inactive")
        assert len(hosted.requests) == 1

    @pytest.mark.parametrize("kind", ["reset", "status", "garbage"])
    def test_waiting_messages(self, hosted: FakeButtDialServer, client: Client, kind: Any) -> None:
        """Reading the queue empties it, so a lost answer is not asked for again."""
        hosted.add_waiting()
        add_fault(hosted, kind, on="rest")
        with pytest.raises(OutcomeUnknownError):
            client.inbox.waiting()
        assert len(hosted.requests) == 1
