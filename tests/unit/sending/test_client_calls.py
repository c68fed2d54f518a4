"""Tools, schemas, pings, and the life of a client, without a socket."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    Client,
    ClientClosedError,
    ClientEvent,
    ComplianceError,
    ConfigError,
    InvalidRequestError,
    NoChannelAssigned,
    OutcomeUnknownError,
    ProtocolError,
    ToolError,
    ToolNotAvailable,
)
from buttdial_sync.testing import FakeButtDialServer, ToolFailure
from tests.fakes import (
    add_fault,
    client_answers,
    cut_streams,
    failed_logins,
    open_streams,
    page_tools,
    set_tools,
)

TOKEN = "agent-secret-1"
BASE_URL = "https://butt-dial.test"
PATIENCE = 5.0


@pytest.fixture(params=["hosted", "open-source"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect=request.param)
    with server.mocked():
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE_URL, agent_token=TOKEN, timeout=PATIENCE, sleep=lambda _: None) as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"a": [1, None]}, {"a": [1, None]}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", [1]),
        ("plain text", "plain text"),
        ("", ""),
        ("5", 5),
        ("[" * 99_999, "[" * 99_999),
    ],
)
def test_answers(answer: Any, wanted: object, fake: FakeButtDialServer, client: Client) -> None:
    """JSON comes decoded, everything else as the text that it is."""
    fake.on_tool("comms_ping", answer)
    assert client.call_tool("comms_ping") == wanted


def test_arguments_travel_as_they_are(fake: FakeButtDialServer, client: Client) -> None:
    """``call_tool`` changes nothing; without arguments an empty object is sent."""
    client.call_tool("comms_ping", {"someKey": {"a": [1]}, "none": None})
    client.call_tool("comms_ping")
    assert [call.args for call in fake.calls] == [{"someKey": {"a": [1]}, "none": None}, {}]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ToolFailure("no"), ToolError),
        (ToolFailure("none", code="NO_CHANNEL_ASSIGNED"), NoChannelAssigned),
        (ToolFailure({"message": "none", "code": "NO_CHANNEL_ASSIGNED"}), NoChannelAssigned),
        (ToolFailure("Compliance: no consent"), ComplianceError),
    ],
)
def test_tool_errors(
    failure: ToolFailure, kind: type[ToolError], fake: FakeButtDialServer, client: Client
) -> None:
    """A tool's no raises the class that fits, once."""
    fake.on_tool("comms_ping", failure)
    with pytest.raises(kind) as caught:
        client.call_tool("comms_ping")
    assert type(caught.value) is kind
    assert caught.value.outcome == "rejected"
    assert len(fake.calls) == 1


def test_unknown_tool(fake: FakeButtDialServer, client: Client) -> None:
    """A tool that the server lacks is one of its own class; so are bad arguments."""
    with pytest.raises(ToolNotAvailable, match="comms_nonsense"):
        client.call_tool("comms_nonsense")
    with pytest.raises(InvalidRequestError, match="to: Required"):
        client.call_tool("comms_send_message", {"body": "hi"})
    assert len(fake.calls) == 2


def test_jsonrpc_error(fake: FakeButtDialServer, client: Client) -> None:
    """The third shape of an error, JSON-RPC's own, is a ``ToolError`` too."""
    add_fault(fake, "jsonrpc_error", on="call", code=-32602, message="Invalid params")
    with pytest.raises(InvalidRequestError, match="Invalid params") as caught:
        client.call_tool("comms_ping")
    assert caught.value.code == "INVALID_REQUEST"


def test_internal_error(fake: FakeButtDialServer, client: Client) -> None:
    """A server that failed inside may have acted before: that is told, and not repeated."""
    add_fault(fake, "jsonrpc_error", on="call", code=-32603, message="Internal error")
    with pytest.raises(OutcomeUnknownError, match="Internal error") as caught:
        client.call_tool("comms_ping")
    assert caught.value.code == "-32603"
    assert fake.posts == 3  # the handshake's two, and the call


def test_echoed_token(fake: FakeButtDialServer, client: Client) -> None:
    """A server that echoes the token does not bring it into an exception."""
    fake.on_tool("comms_ping", ToolFailure(f"bad token {TOKEN}", details=[TOKEN]))
    with pytest.raises(ToolError) as caught:
        client.call_tool("comms_ping")
    add_fault(fake, "jsonrpc_error", on="call", code=-32602, message=f"bad token {TOKEN}")
    with pytest.raises(ToolError) as second:
        client.call_tool("comms_ping")
    for error in (caught.value, second.value):
        assert TOKEN not in str(error) + repr(vars(error))


def test_no_content(fake: FakeButtDialServer, client: Client) -> None:
    """A result without content leaves it unknown whether the tool did its work."""
    add_fault(fake, "no_content", on="call")
    with pytest.raises(OutcomeUnknownError) as caught:
        client.call_tool("comms_ping")
    assert isinstance(caught.value.__cause__, ProtocolError)


def test_null_is_an_answer(fake: FakeButtDialServer, client: Client) -> None:
    """Of a tool that has nothing to say: it was carried out."""
    fake.on_tool("comms_ping", "null")
    assert client.call_tool("comms_ping") is None
    assert len(fake.calls) == 1


def test_a_refusal_after_a_lost_answer(fake_server: FakeButtDialServer) -> None:
    """That the token is refused now does not say that the first attempt did nothing."""
    arguments = {"to": "+14155550123", "body": "x", "channel": "sms", "idempotencyKey": "k"}
    with Client(BASE_URL, agent_token=TOKEN, sleep=lambda _: fake_server.revoke(TOKEN)) as client:
        client.list_tools()
        fake_server.fault("cut", on="call")
        with pytest.raises(OutcomeUnknownError, match="comms_send_message may have been") as caught:
            client.call_tool("comms_send_message", arguments)
    assert isinstance(caught.value.__cause__, AuthError)
    assert caught.value.outcome == "unknown"


def test_lost_answer(fake: FakeButtDialServer, client: Client) -> None:
    """A call whose answer is lost is not repeated on suspicion."""
    fake.fault("cut", on="call")
    with pytest.raises(OutcomeUnknownError, match="comms_ping may have been carried out"):
        client.call_tool("comms_ping")
    assert len(fake.calls) == 1
    assert client.call_tool("comms_ping") == {"status": "ok"}


def test_lost_answer_with_a_key(fake: FakeButtDialServer, client: Client) -> None:
    """With a key that the server honours it is repeated, else not."""
    fake.fault("cut", on="call")
    arguments = {"to": "+1", "body": "hi", "idempotencyKey": "k1"}
    if fake.dialect == "hosted":
        assert client.call_tool("comms_send_message", arguments)["messageId"]
        assert len(fake.delivered) == 1
    else:
        with pytest.raises(OutcomeUnknownError):
            client.call_tool("comms_send_message", arguments)
        assert len(fake.sent_messages) == 1


@pytest.mark.parametrize("value", [object(), b"x", {1, 2}, "\ud83d", {("a",): 1}])
def test_arguments_that_are_no_json(
    value: object, fake: FakeButtDialServer, client: Client
) -> None:
    """What JSON cannot hold is a config error of ours, and nothing is sent."""
    with pytest.raises(ConfigError):
        client.call_tool("comms_ping", {"x": value})
    assert fake.calls == []
    assert client.call_tool("comms_ping") == {"status": "ok"}


def test_list_tools(fake: FakeButtDialServer, client: Client) -> None:
    """The tools come with their schemas, and are asked for once."""
    tools = {tool.name: tool for tool in client.list_tools()}
    assert "to" in tools["comms_send_message"].properties
    posts = fake.posts
    assert len(client.list_tools()) == len(tools)
    assert fake.posts == posts


def test_tools_may_be_edited(fake: FakeButtDialServer, client: Client) -> None:
    """A host prepares them for its model; the schemas that decide what is sent stay."""
    for tool in client.list_tools():
        tool.input_schema["properties"].pop("language", None)
        tool.raw.clear()
    assert any("language" in tool.properties for tool in client.list_tools())
    assert all(tool.raw for tool in client.list_tools())
    assert len([each for each in fake.requests if b"tools/list" in each.body]) == 1


@pytest.mark.parametrize("page_size", [1, 7, 1000])
def test_pages(page_size: int) -> None:
    """A list in pages is put together; the last page may be the first."""
    fake = FakeButtDialServer(dialect="open-source")
    page_tools(fake, page_size)
    with fake.mocked(), Client(BASE_URL, agent_token=TOKEN) as client:
        names = [tool.name for tool in client.list_tools()]
    assert names == sorted(set(names))
    assert len(names) == 21


def test_list_changed(fake: FakeButtDialServer, client: Client) -> None:
    """After the server's announcement the list is asked for again."""
    client.list_tools()
    set_tools(fake, ["comms_ping"], announce=True)
    client.ping()
    assert [tool.name for tool in client.list_tools()] == ["comms_ping"]


def test_list_changed_meanwhile(fake: FakeButtDialServer, client: Client) -> None:
    """An announcement that comes while the list is on its way is not overlooked."""
    client.ping()
    fake.fault("late", on="post")
    listed: list[int] = []
    thread = threading.Thread(target=lambda: listed.append(len(client.list_tools())))
    thread.start()
    assert fake.wait_for(lambda: fake.held == 1)
    set_tools(fake, ["comms_ping"], announce=True)
    fake.release()
    thread.join(PATIENCE)
    assert len(listed) == 1
    assert [tool.name for tool in client.list_tools()] == ["comms_ping"]


def test_ping(fake: FakeButtDialServer, client: Client) -> None:
    """A ping measures the round trip on the open session."""
    assert client.ping() >= 0
    posts = fake.posts
    assert client.ping() >= 0
    assert (fake.posts, fake.streams_opened) == (posts + 1, 1)


def test_server_pings_are_answered(fake: FakeButtDialServer, client: Client) -> None:
    """The server's own requests get answers, with its ids, 0 and texts included."""
    client.ping()
    fake.ask("ping", id=0)
    fake.ask("roots/list", id="r1")
    fake.ask("sampling/createMessage", id=1)
    assert fake.wait_for(lambda: len(client_answers(fake)) == 3)
    answers = {answer["id"]: answer for answer in client_answers(fake)}
    assert answers[0]["result"] == {}
    assert answers["r1"]["error"]["code"] == answers[1]["error"]["code"] == -32601


def test_token_in_is_found_once(fake: FakeButtDialServer) -> None:
    """Where the token goes is tried once, and known to the next client."""
    for _ in range(2):
        with Client(BASE_URL, agent_token=TOKEN) as client:
            client.ping()
    streams = [request for request in fake.requests if request.method == "GET"]
    assert len(streams) == (2 if fake.dialect == "hosted" else 3)
    assert failed_logins(fake) == len(streams) - 2  # without ``?token=`` it is one, too


def test_token_in_is_obeyed(fake: FakeButtDialServer) -> None:
    """A fixed place is not changed on the server's word."""
    with Client(BASE_URL, agent_token=TOKEN, token_in="header") as client:
        if fake.dialect == "hosted":
            assert client.ping() >= 0
        else:
            with pytest.raises(AuthError):
                client.ping()
    streams = [request for request in fake.requests if request.method == "GET"]
    assert len(streams) == 1
    assert "token" not in streams[0].query


def test_token_never_travels_in_a_plain_url() -> None:
    """Over http to another machine the token is not put into the URL."""
    fake = FakeButtDialServer(dialect="open-source")
    with (
        fake.mocked("http://butt-dial.test") as mocked,
        Client(mocked.base_url, agent_token=TOKEN) as client,
        pytest.raises(ConfigError, match="everybody on the way"),
    ):
        client.ping()
    assert all("token" not in request.query for request in fake.requests)


def test_events(fake: FakeButtDialServer) -> None:
    """The host is told of the attempt, the connection and the answer, without a secret."""
    events: list[ClientEvent] = []
    with Client(BASE_URL, agent_token=TOKEN, on_event=events.append) as client:
        client.send_message("+14155550123", "private")
    assert [(event.kind, event.operation) for event in events] == [
        ("attempt", "comms_send_message"),
        ("connect", "session"),
        ("answer", "comms_send_message"),
    ]
    for secret in (TOKEN, "+1415", "private"):
        assert secret not in repr(events)
    assert len(fake.delivered) == 1


def test_waiting_messages_come_first() -> None:
    """``before_open`` gets what waits before the stream empties the queue."""
    fake = FakeButtDialServer(dialect="open-source")
    fake.add_waiting(body="one")
    fake.add_waiting(body="two")
    got: list[str | None] = []
    with (
        fake.mocked(),
        Client(
            BASE_URL, agent_token=TOKEN, before_open=lambda new: got.extend(m.body for m in new)
        ) as client,
    ):
        assert client.send_message("+1", "hi").ok
    assert got == ["one", "two"]
    assert fake.lost_waiting == 0


@pytest.mark.parametrize("body", [{"messages": "x"}, {"messages": {"x": 1}}, [], "x"])
def test_unreadable_queue_stops_the_opening(body: object) -> None:
    """A queue that cannot be read is not emptied by a stream; the message was not sent."""
    fake = FakeButtDialServer(dialect="open-source")
    fake.on_rest("GET", "/api/v1/waiting-messages", body)
    with (
        fake.mocked(),
        Client(BASE_URL, agent_token=TOKEN, before_open=lambda _: None) as client,
    ):
        assert client.send_message("+1", "hi").outcome == "not_sent"
    assert fake.streams_opened == 0


def test_an_odd_message_does_not_stop_the_opening() -> None:
    """The server has given the page away: what cannot be read is handed over as it came."""
    fake = FakeButtDialServer(dialect="open-source")
    fake.on_rest("GET", "/api/v1/waiting-messages", {"messages": [5, {"body": "one"}]})
    got: list[Any] = []
    with (
        fake.mocked(),
        Client(BASE_URL, agent_token=TOKEN, before_open=got.extend) as client,
    ):
        assert client.send_message("+1", "hi").ok
    assert [(each.body, each.raw) for each in got[:2]] == [(None, 5), ("one", {"body": "one"})]


def test_before_open_may_not_call_the_client(fake: FakeButtDialServer) -> None:
    """A callback that needs the stream that it precedes is told so, and nobody hangs."""
    fake.add_waiting()
    told: list[BaseException] = []

    def call(_: object) -> None:
        try:
            made.ping()
        except ConfigError as error:
            told.append(error)

    made = Client(BASE_URL, agent_token=TOKEN, before_open=call)
    with made:
        assert made.send_message("+1", "hi").ok
    assert "before_open" in str(told[0])


def test_from_env(fake: FakeButtDialServer) -> None:
    """The environment makes a client; arguments win over it."""
    environ = {
        "BUTT_DIAL_BASE_URL": BASE_URL,
        "BUTT_DIAL_AGENT_ID": "agent-1",
        "BUTT_DIAL_AGENT_TOKEN": TOKEN,
        "BUTT_DIAL_TOKEN_IN": "header" if fake.dialect == "hosted" else "query",
    }
    with Client.from_env(environ) as client:
        assert client.send_message("+1", "hi").ok
        assert repr(client) == "Client('https://butt-dial.test', agent_id='agent-1')"
    assert len(fake.requests) == 4
    with Client.from_env(environ, agent_id="agent-2", agent_token=None) as other:
        assert "agent-2" in repr(other)
        with pytest.raises(ConfigError, match="agent_token"):
            other.send_message("+1", "hi")


def test_from_an_empty_environment() -> None:
    """Without a base URL there is no client, and the variable is named."""
    with pytest.raises(ConfigError) as caught:
        Client.from_env({})
    assert "BUTT_DIAL_BASE_URL" in str(caught.value.remediation)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("timeout", 0, ArgumentValueError),
        ("connect_timeout", -1, ArgumentValueError),
        ("max_attempts", 0, ArgumentValueError),
        ("max_sessions", 0, ArgumentValueError),
        ("max_sessions", True, ArgumentTypeError),
        ("max_event_bytes", 1.5, ArgumentTypeError),
        ("idle_ping", float("nan"), ArgumentValueError),
        ("close_idle_after", 0, ArgumentValueError),
        ("token_in", "body", ConfigError),
    ],
)
def test_bad_options(option: str, value: Any, kind: type[Exception]) -> None:
    """A wrong option is named, and no half-made client is left to warn of."""
    with pytest.raises(kind, match=option):
        Client(BASE_URL, **{option: value})
    gc.collect()


def test_secrets_stay_out_of_repr() -> None:
    """Neither the client nor what it is made of shows the token."""
    with Client(BASE_URL, agent_token=TOKEN) as client:
        assert TOKEN not in repr(client)
        assert TOKEN not in repr(vars(client))


def test_close_twice_and_use_afterwards(fake: FakeButtDialServer) -> None:
    """Closing is final, may be repeated, and ends the stream."""
    client = Client(BASE_URL, agent_token=TOKEN)
    client.ping()
    client.close()
    client.close()
    assert open_streams(fake) == 0
    for call in (
        lambda: client.send_message("+1", "hi"),
        lambda: client.call_tool("comms_ping"),
        client.list_tools,
        client.ping,
        client.__enter__().ping,
    ):
        with pytest.raises(ClientClosedError):
            call()
    assert fake.sent_messages == []


def test_close_before_use() -> None:
    """A client that was never used has nothing to close."""
    client = Client(BASE_URL, agent_token=TOKEN)
    client.close()
    with pytest.raises(ClientClosedError):
        client.ping()


def test_close_tells_who_waits(fake: FakeButtDialServer) -> None:
    """A caller whose answer has not come is told at once, and that the outcome is unknown."""
    client = Client(BASE_URL, agent_token=TOKEN, timeout=60.0)
    fake.fault("silence", on="call")
    told: list[BaseException] = []

    def call() -> None:
        try:
            client.call_tool("comms_ping")
        except ClientClosedError as error:
            told.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert fake.wait_for(lambda: len(fake.calls) == 1)
    client.close()
    caller.join(PATIENCE)
    assert [getattr(error, "outcome", None) for error in told] == ["unknown"]


def test_unclosed_client_warns(fake: FakeButtDialServer) -> None:
    """A client that is dropped with a live session warns, and shows no token."""
    held = [Client(BASE_URL, agent_token=TOKEN)]
    held[0].ping()

    def drop() -> None:
        held.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="was not closed") as caught:
        drop()
    assert TOKEN not in str(caught[0].message)
    cut_streams(fake)


def test_unused_client_does_not_warn() -> None:
    """A client without a session may be dropped."""
    client = Client(BASE_URL, agent_token=TOKEN)
    del client
    gc.collect()


def test_one_session_per_token_at_most(fake: FakeButtDialServer) -> None:
    """Over ``max_sessions`` the one idle for longest is closed."""
    with Client(BASE_URL, agent_token=TOKEN, max_sessions=2) as client:
        for token in ("agent-secret-a", "agent-secret-b", "agent-secret-a", "agent-secret-c"):
            assert client.ping(agent_token=token) >= 0
        assert fake.wait_for(lambda: open_streams(fake) == 2)
        assert fake.streams_opened == 3
        client.ping(agent_token="agent-secret-a")
        assert fake.streams_opened == 3


def test_threads_share_a_client(fake: FakeButtDialServer, client: Client) -> None:
    """Many threads send over one session, and each gets its own answer."""
    fake.on_tool("comms_ping", lambda args: {"echo": args["number"]})
    wrong: list[int] = []

    def call(number: int) -> None:
        for step in range(10):
            wanted = number * 100 + step
            if client.call_tool("comms_ping", {"number": wanted}) != {"echo": wanted}:
                wrong.append(wanted)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []
    assert (len(fake.calls), fake.streams_opened) == (80, 1)
