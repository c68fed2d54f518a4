"""Operations on their way to the server: how many requests, what is repeated, what is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentNotSupported,
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    Client,
    ClientClosedError,
    ClientEvent,
    ComplianceError,
    ConfigError,
    EndpointNotAvailable,
    InvalidRequestError,
    NoChannelAssigned,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    ProviderCapabilityError,
    RateLimitError,
    ServerError,
    StreamLostError,
    ToolError,
    ToolNotAvailable,
)
from buttdial_sync.testing import FakeButtDialServer, ToolFailure

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
        hosted.set_tools(["comms_ping"])
        with pytest.raises(ToolNotAvailable):
            client.otp.verify("123456", to="+1")
        hosted.set_tools(["comms_verify_otp"], announce=True)
        assert client.ping() >= 0  # its answer comes after the announcement
        assert client.otp.verify("123456", to="+1").valid

    def test_pages(self, make_client: Make) -> None:
        """The schema may come in pages."""
        fake = FakeButtDialServer(page_size=3)
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
        hosted.fault(kind, on="rest")
        with pytest.raises(OutcomeUnknownError):
            client.inbox.waiting()
        assert len(hosted.requests) == 1


class TestErrors:
    """Refusals become their classes, by whichever way they come."""

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (ToolFailure("no", "PROVIDER_UNSUPPORTED", action="react"), ProviderCapabilityError),
            (ToolFailure({"code": "NO_CHANNEL_ASSIGNED", "message": "no"}), NoChannelAssigned),
            (ToolFailure("Compliance: opted out"), ComplianceError),
            (ToolFailure("Auth error: wrong scope"), PermissionDeniedError),
            (
                ToolFailure("Rate limit exceeded: per-minute (10/10). Resets in 60 s"),
                RateLimitError,
            ),
            (ToolFailure("anything else"), ToolError),
        ],
    )
    def test_tool(
        self,
        hosted: FakeButtDialServer,
        client: Client,
        answer: ToolFailure,
        kind: type[ToolError],
    ) -> None:
        """A tool's no."""
        hosted.on_tool("comms_whatsapp_action", answer)
        with pytest.raises(kind) as caught:
            client.whatsapp.react("m-1", "👍")
        assert type(caught.value) is kind
        assert caught.value.outcome == "rejected"
        assert len(hosted.calls) == 1

    def test_details(self, hosted: FakeButtDialServer, client: Client) -> None:
        """What the server says about the refusal is on the error."""
        said = {"channel": "whatsapp", "action": "edit", "provider": "p", "remediation": "Do it."}
        hosted.on_tool("comms_whatsapp_action", ToolFailure("no", "CHANNEL_UNSUPPORTED", **said))
        with pytest.raises(ProviderCapabilityError) as caught:
            client.whatsapp.edit("m-1", "text")
        error = caught.value
        assert {name: getattr(error, name) for name in said} == said
        assert error.code == "CHANNEL_UNSUPPORTED"

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"error": "Invalid", "code": "AUTH_INVALID_TOKEN"}, AuthError),
            (403, {"error": "Auth error: scope"}, PermissionDeniedError),
            (400, {"error": "limit must be a number"}, InvalidRequestError),
            (404, "<!DOCTYPE html><html></html>", EndpointNotAvailable),
            (500, {"error": "oops"}, ServerError),
        ],
    )
    def test_rest(
        self,
        hosted: FakeButtDialServer,
        client: Client,
        status: int,
        body: Any,
        kind: type[Exception],
    ) -> None:
        """An endpoint's no; a 401 and an endpoint that is not there are not tried again."""
        hosted.fault("status", on="rest", status=status, body=body, count=3)
        with pytest.raises(kind):
            client.profile.channel_status()
        assert len(hosted.requests) == (3 if status == 500 else 1)

    def test_unexpected_shape(self, hosted: FakeButtDialServer, client: Client) -> None:
        """An answer of another shape names the tool and the path, and was carried out."""
        hosted.on_tool("comms_make_call", {"callSid": {"not": "an id"}})
        with pytest.raises(ProtocolError, match=r"comms_make_call .*call_sid") as caught:
            client.voice.make_call("+1")
        assert caught.value.outcome == "sent"

    def test_refusal_of_an_argument(self, open_source: FakeButtDialServer, client: Client) -> None:
        """Both servers' schemas are asked, not a list of ours."""
        open_source.set_tools(
            [{"name": "comms_make_call", "inputSchema": {"properties": {"to": {}}}}]
        )
        with pytest.raises(ArgumentNotSupported, match="orchestrator"):
            client.voice.make_call("+1", orchestrator="o")
        assert open_source.calls == []


def agent_tool(name: str, *properties: str) -> dict[str, Any]:
    known = {each: {"type": "string"} for each in ("agentId", *properties)}
    return {"name": name, "inputSchema": {"type": "object", "properties": known}}


def needs_agent(args: dict[str, Any]) -> dict[str, Any] | ToolFailure:
    if "agentId" not in args:
        return ToolFailure("agentId is required for organization tokens")
    return {"callSid": "CA1", "success": True, "externalId": "SM1"}


class TestAgentId:
    """An organization's token is told by the server that it has to name the agent."""

    @pytest.fixture(autouse=True)
    def _server(self, hosted: FakeButtDialServer) -> None:
        hosted.set_tools(
            [
                agent_tool("comms_make_call", "to"),
                agent_tool("comms_send_message", "to", "body", "channel"),
            ]
        )

    def test_per_agent_token(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """Where the server does not ask for it, nothing is added and nothing asked."""
        make_client(token_in="auto", agent_id="a-1").voice.make_call("+1")
        assert hosted.calls[0].args == {"to": "+1"}
        assert asked_for_tools(hosted) == 0

    def test_learns(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """The refusal costs one more call, once; messages profit too."""
        hosted.on_tool("comms_make_call", needs_agent)
        hosted.on_tool("comms_send_message", needs_agent)
        client = make_client(token_in="auto", agent_id="a-1")
        assert client.voice.make_call("+1").call_sid == "CA1"
        assert client.voice.make_call("+1").call_sid == "CA1"
        assert client.send_message("+1", "text", "sms").ok
        assert [call.args.get("agentId") for call in hosted.calls] == [None, "a-1", "a-1", "a-1"]

    def test_message_first(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """A message is sent again too: it was refused, and it keeps its key."""
        hosted.on_tool("comms_send_message", needs_agent)
        assert make_client(token_in="auto", agent_id="a-1").send_message("+1", "text", "sms").ok
        assert len({call.idempotency_key for call in hosted.calls}) == 1

    @pytest.mark.parametrize("options", [{}, {"agent_id": "a-1", "check_schema": False}])
    def test_cannot_learn(
        self, hosted: FakeButtDialServer, make_client: Make, options: dict[str, Any]
    ) -> None:
        """Without an agent_id, or unchecked, the refusal stands."""
        hosted.on_tool("comms_make_call", needs_agent)
        with pytest.raises(InvalidRequestError, match="agentId is required"):
            make_client(token_in="auto", **options).voice.make_call("+1")
        assert len(hosted.calls) == 1

    def test_gives_up(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """A server that is not content with it is not asked for ever."""
        hosted.on_tool("comms_make_call", ToolFailure("agentId is required"))
        with pytest.raises(InvalidRequestError):
            make_client(token_in="auto", agent_id="a-1").voice.make_call("+1")
        assert len(hosted.calls) == 2

    def test_another_token(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """The client's agent_id belongs to its own token, not to another one."""
        hosted.on_tool("comms_send_message", needs_agent)
        client = make_client(token_in="auto", agent_id="a-1")
        assert client.send_message("+1", "text", "sms", agent_token="token-2").failed
        assert client.as_agent("token-2").send_message("+1", "text", "sms").failed
        assert "agentId" not in json.dumps([dict(call.args) for call in hosted.calls])
