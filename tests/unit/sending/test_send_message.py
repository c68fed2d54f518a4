"""``Client.send_message`` against both kinds of server, without a socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentNotSupported,
    ArgumentTypeError,
    AuthInvalidTokenError,
    AuthLockedOutError,
    AuthTokenRevokedError,
    Client,
    ConfigError,
    SendResult,
)
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_fault, failed_logins, set_tools

TOKEN = "agent-secret-1"
BASE_URL = "https://butt-dial.test"


@pytest.fixture(params=["hosted", "open-source"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect=request.param)
    with server.mocked():
        yield server


@pytest.fixture
def hosted(fake_server: FakeButtDialServer) -> FakeButtDialServer:
    return fake_server


@pytest.fixture
def open_source() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect="open-source")
    with server.mocked():
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE_URL, agent_token=TOKEN, timeout=5.0, sleep=lambda _: None) as made:
        yield made


def sent_args(fake: FakeButtDialServer) -> dict[str, Any]:
    return dict(fake.sent_messages[-1].args)


@pytest.mark.parametrize("key", ["", "  "])
def test_a_blank_key_is_refused(hosted: FakeButtDialServer, client: Client, key: str) -> None:
    """All messages with it would be one for the server, which says "sent" of the others too."""
    results = [
        client.send_message("+14155550123", body, "sms", idempotency_key=key) for body in "ab"
    ]
    assert [result.outcome for result in results] == ["not_sent"] * 2
    assert "idempotency_key must not be empty" in str(results[0].error)
    assert hosted.sent_messages == []


def test_no_thread_can_be_started(
    fake: FakeButtDialServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, and the result says so; the next send finds its thread again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        result = client.send_message("+14155550123", "Hello", "sms")
    assert (result.outcome, result.error_type) == ("not_sent", "TransportError")
    assert "no thread can be started" in str(result.error)
    assert "limit" in str(result.remediation)
    assert fake.sent_messages == []
    assert client.send_message("+14155550123", "Hello", "sms").ok


def test_happy_path(fake: FakeButtDialServer, client: Client) -> None:
    """A message arrives with its text, and the result has the server's id and the key."""
    fake.on_send(sid="SM1")
    result = client.send_message("+14155550123", "Hello", "sms")
    args = sent_args(fake)
    key = args.pop("idempotencyKey")
    assert args == {"to": "+14155550123", "body": "Hello", "channel": "sms"}
    assert fake.sent_messages[-1].token == TOKEN
    assert (result.ok, result.failed, result.unknown) == (True, False, False)
    assert result == SendResult(outcome="sent", message_sid="SM1", idempotency_key=key, attempts=1)
    assert isinstance(result.raw, dict)


def test_one_session_for_all(fake: FakeButtDialServer, client: Client) -> None:
    """Many messages go over one stream, each with one post and a key of its own."""
    results = [client.send_message("+1", str(number)) for number in range(5)]
    assert fake.streams_opened == 1
    assert fake.posts == 5 + 2
    assert len({result.idempotency_key for result in results}) == 5
    assert len({result.message_sid for result in results}) == 5


PARAMETERS: dict[str, tuple[Any, str, Any]] = {
    "media_url": ("https://x.test/a.png", "media", ["https://x.test/a.png"]),
    "sender_sid": ("SID1", "senderSid", "SID1"),
    "sender_name": ("Shop", "senderName", "Shop"),
    "language": ("en", "language", "en"),
    "fallback_channels": (["sms", "email"], "fallbackChannels", ["sms", "email"]),
    "scheduled_at": ("2026-01-02T03:04:05Z", "scheduledAt", "2026-01-02T03:04:05Z"),
    "thread_id": ("t1", "threadId", "t1"),
    "entity_id": ("e1", "entityId", "e1"),
    "reply_msg_id": ("m1", "replyMsgId", "m1"),
    "idempotency_key": ("k1", "idempotencyKey", "k1"),
    "subject": ("Hi", "subject", "Hi"),
    "html": ("<p>Hi</p>", "html", "<p>Hi</p>"),
    "template_id": ("T1", "templateId", "T1"),
    "template_vars": ({"1": "Ann"}, "templateVars", {"1": "Ann"}),
    "target_gender": ("female", "targetGender", "female"),
}
IGNORED = {
    "sender_name",
    "thread_id",
    "entity_id",
    "reply_msg_id",
    "idempotency_key",
    "target_gender",
}
KNOWN_TO_OPEN_SOURCE = {
    "subject", "html", "template_id", "template_vars", "target_gender"
}  # fmt: skip
DROPPED = sorted(set(PARAMETERS) - IGNORED - KNOWN_TO_OPEN_SOURCE)


@pytest.mark.parametrize("name", PARAMETERS)
def test_wire_names(name: str, hosted: FakeButtDialServer, client: Client) -> None:
    """Each parameter travels under its wire name, and alone."""
    value, wire, wanted = PARAMETERS[name]
    assert client.send_message("+1", "hi", **{name: value}).ok
    args = sent_args(hosted)
    assert args[wire] == wanted
    assert set(args) == {"to", "body", "channel", "idempotencyKey", wire}


def test_sequences_and_mappings_of_any_kind(hosted: FakeButtDialServer, client: Client) -> None:
    """A tuple is as good as a list, and a read-only mapping as a dict."""
    variables = MappingProxyType({"1": "a\r\nb"})
    result = client.send_message(
        "+1", fallback_channels=("sms",), template_id="T1", template_vars=variables
    )
    assert result.ok
    assert sent_args(hosted)["fallbackChannels"] == ["sms"]
    assert sent_args(hosted)["templateVars"] == {"1": "a\nb"}


@pytest.mark.parametrize("name", DROPPED)
def test_unsupported_arguments(name: str, open_source: FakeButtDialServer, client: Client) -> None:
    """What the open-source server would silently drop is refused before anything is sent."""
    value, wire, _ = PARAMETERS[name]
    with pytest.raises(ArgumentNotSupported, match=wire) as caught:
        client.send_message("+1", "hi", **{name: value})
    assert caught.value.outcome == "not_sent"
    assert open_source.sent_messages == []


@pytest.mark.parametrize("name", sorted(IGNORED | KNOWN_TO_OPEN_SOURCE))
def test_arguments_that_pass(name: str, open_source: FakeButtDialServer, client: Client) -> None:
    """What the server knows, and what does no harm when it is ignored, is sent."""
    value, wire, wanted = PARAMETERS[name]
    assert client.send_message("+1", "hi", **{name: value}).ok
    assert sent_args(open_source)[wire] == wanted


@pytest.mark.parametrize("name", ["html", "template_id"])
def test_a_body_that_the_server_requires(
    name: str, open_source: FakeButtDialServer, client: Client
) -> None:
    """It is asked for before anything is sent, and not by eleven lines of the server's checks."""
    value, _, _ = PARAMETERS[name]
    result = client.send_message("+1", **{name: value})
    assert (result.outcome, result.stage_failed) == ("not_sent", "config")
    assert result.error == "comms_send_message on this server requires body"
    assert result.remediation
    assert open_source.calls == []


def test_a_message_without_a_body(hosted: FakeButtDialServer, client: Client) -> None:
    """Where the schema does not require one, it goes out."""
    assert client.send_message("+1", template_id="T1").ok
    assert len(hosted.delivered) == 1


def test_a_subject_of_two_lines(fake: FakeButtDialServer, client: Client) -> None:
    """It is refused before anything is sent: the second line could become a header."""
    result = client.send_message("a@x.test", "hi", "email", subject="Hello\nBcc: z@x.test")
    assert (result.outcome, result.error) == ("not_sent", "subject must be a single line")
    assert fake.requests == []


def test_schema_is_asked_once(open_source: FakeButtDialServer, client: Client) -> None:
    """The schema costs one request in the session's life, and a plain message none."""
    client.send_message("+1", "hi")
    assert open_source.posts == 3
    for _ in range(3):
        client.send_message("+1", "hi", target_gender="female", subject="Hello")
    assert open_source.posts == 7


def test_check_schema_off(open_source: FakeButtDialServer) -> None:
    """``check_schema=False`` lets everything through, without asking."""
    with Client(BASE_URL, agent_token=TOKEN, check_schema=False) as client:
        assert client.send_message("+1", "hi", media_url="https://x.test/a.png").ok
    assert sent_args(open_source)["media"] == ["https://x.test/a.png"]
    assert open_source.posts == 3


def test_line_ends(open_source: FakeButtDialServer, client: Client) -> None:
    """Carriage returns, which one server rejects, become line feeds."""
    assert client.send_message("a@x.test", "a\r\nb\rc\n", "email", subject="x", html="<p>\r\n").ok
    args = sent_args(open_source)
    assert (args["body"], args["html"]) == ("a\nb\nc\n", "<p>\n")


@pytest.mark.parametrize("text", ["\u00e9\u20ac\U0001f600", "\u2028", '"\\', "x" * 100_000])
def test_texts_arrive_as_they_are(text: str, fake: FakeButtDialServer, client: Client) -> None:
    """Any text travels unchanged, long ones too."""
    assert client.send_message("+1", text).ok
    assert sent_args(fake)["body"] == text


CONFIG_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no body": ({"to": "+1"}, "nothing to send"),
    "empty body": ({"to": "+1", "body": ""}, "nothing to send"),
    "blank recipient": ({"to": " ", "body": "hi"}, "to must not be empty"),
    "wrong channel": ({"to": "+1", "body": "hi", "channel": "fax"}, "channel must be one of"),
    "wrong gender": ({"to": "+1", "body": "hi", "target_gender": "x"}, "target_gender"),
    "blank key": ({"to": "+1", "body": "hi", "sender_sid": ""}, "sender_sid must not be empty"),
    "bad token": ({"to": "+1", "body": "hi", "agent_token": "a\nb"}, "token"),
    "bad timeout": ({"to": "+1", "body": "hi", "timeout": 0}, "timeout"),
    "huge timeout": ({"to": "+1", "body": "hi", "timeout": 1e300}, "timeout"),
    "half a character": ({"to": "+1", "body": "\ud83d"}, ""),
}


@pytest.mark.parametrize("case", CONFIG_CASES)
def test_config_failures(case: str, fake: FakeButtDialServer, client: Client) -> None:
    """What the caller has to mend is a result of stage ``config``, and nothing is sent."""
    arguments, words = CONFIG_CASES[case]
    result = client.send_message(**arguments)
    assert (result.failed, result.outcome, result.stage_failed) == (True, "not_sent", "config")
    assert words in str(result.error)
    assert fake.sent_messages == []


def test_no_token_at_all(fake: FakeButtDialServer) -> None:
    """A missing token is not one message's fault: it raises, names the variable, asks nobody."""
    with Client(BASE_URL) as client, pytest.raises(ConfigError, match="agent_token") as caught:
        client.send_message("+1", "hi")
    assert "BUTT_DIAL_AGENT_TOKEN" in str(caught.value.remediation)
    assert fake.requests == []


def test_an_empty_token_of_one_call(fake: FakeButtDialServer, client: Client) -> None:
    """An empty token is a missing one, and not the client's own."""
    with pytest.raises(ConfigError, match="agent_token"):
        client.send_message("+1", "hi", agent_token="")
    assert fake.requests == []


WRONG_TYPES: dict[str, Any] = {
    "to": 14155550123,
    "body": b"hi",
    "channel": 5,
    "media_url": ["https://x.test"],
    "sender_sid": 1,
    "sender_name": 1,
    "language": True,
    "fallback_channels": "sms",
    "scheduled_at": object(),
    "thread_id": 1,
    "entity_id": 1.5,
    "reply_msg_id": [],
    "idempotency_key": 7,
    "subject": {},
    "html": b"",
    "template_id": 3,
    "template_vars": {"a": 1},
    "target_gender": 1,
    "agent_token": 1,
    "timeout": "3",
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types(name: str, hosted: FakeButtDialServer, client: Client) -> None:
    """An argument of the wrong type raises, and the message names the parameter."""
    arguments: dict[str, Any] = {"to": "+1", "body": "hi", name: WRONG_TYPES[name]}
    with pytest.raises(ArgumentTypeError, match=rf"^{name} must be "):
        client.send_message(**arguments)
    assert hosted.requests == []


@pytest.mark.parametrize(
    ("answer", "sid"),
    [
        ('{"messageId": "M1"}', "M1"),
        ('{"sid": "M1"}', "M1"),
        ('{"message_sid": "M1"}', "M1"),
        ('{"success": true, "externalId": "M1"}', "M1"),
        ('{\n  "success": true,\n  "externalId": "M1"\n}', "M1"),
        ('{"messageId": 17}', "17"),
        ('{"success": true}', None),
        ('{"messageId": "M1", "error": null}', "M1"),
        ('{"messageId": "M1", "sid": "S1"}', "M1"),
    ],
)
def test_answers_that_mean_yes(
    answer: str, sid: str | None, fake: FakeButtDialServer, client: Client
) -> None:
    """Every known way to say that the server took the message is understood."""
    fake.on_send(raw_text=answer)
    result = client.send_message("+1", "hi")
    assert (result.ok, result.message_sid, result.error) == (True, sid, None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"success": false}', ""),
        ('{"success": false, "error": "no"}', "no"),
        ('{"success": false, "messageId": "M1"}', ""),
        ('{"error": "no"}', "no"),
        ('{"error": {"message": "no", "code": "X"}}', "no"),
        ('{"errors": ["no", "nope"]}', "no"),
        ('{"errors": [{"message": "no"}]}', "no"),
    ],
)
def test_answers_that_mean_no(
    answer: str, words: str, fake: FakeButtDialServer, client: Client
) -> None:
    """A no without ``isError`` is a no, tried once."""
    fake.on_send(raw_text=answer)
    result = client.send_message("+1", "hi")
    assert (result.outcome, result.failed, result.attempts) == ("rejected", True, 1)
    assert words in str(result.error)
    assert result.raw is not None


@pytest.mark.parametrize(
    "answer",
    ["queued", "", "{}", "[]", "null", '"M1"', '{"status": "sent"}', '{"sid": ""}', "[" * 99_999],
)  # fmt: skip
def test_answers_that_say_nothing(answer: str, fake: FakeButtDialServer, client: Client) -> None:
    """An answer without an id and without an error may mean anything: unknown, and said once."""
    fake.on_send(raw_text=answer)
    with Client(BASE_URL, agent_token=TOKEN, max_attempts=1) as once:
        result = once.send_message("+1", "hi")
    assert (result.outcome, result.unknown, result.stage_failed) == ("unknown", True, "parse")
    assert len(fake.sent_messages) == 1


def test_no_content(fake: FakeButtDialServer, client: Client) -> None:
    """A result without content is no answer."""
    add_fault(fake, "no_content", on="call")
    result = client.send_message("+1", "hi")
    assert (result.outcome, result.stage_failed) == ("unknown", "parse")


def test_every_detail_of_a_refusal(hosted: FakeButtDialServer, client: Client) -> None:
    """Code, channel, advice and words of the server are in the result."""
    hosted.on_send(
        error="no sender", code="NO_CHANNEL_ASSIGNED", channel="sms", remediation="Buy a number."
    )
    result = client.send_message("+1", "hi", "sms", idempotency_key="k1")
    assert result == SendResult(
        outcome="rejected",
        error="no sender",
        error_type="NoChannelAssigned",
        error_code="NO_CHANNEL_ASSIGNED",
        error_channel="sms",
        stage_failed="server",
        remediation="Buy a number.",
        idempotency_key="k1",
        attempts=1,
    )
    assert result.raw["code"] == "NO_CHANNEL_ASSIGNED"


def test_own_quota(open_source: FakeButtDialServer, client: Client) -> None:
    """The agent's own limit is told with its time, not waited for beyond the deadline."""
    open_source.on_send(
        error="Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."
    )
    result = client.send_message("+1", "hi")
    assert (result.outcome, result.retry_after, result.attempts) == ("rejected", 60.0, 1)


def test_rolled_back_is_tried_again(hosted: FakeButtDialServer, client: Client) -> None:
    """What the server calls retryable is repeated with the same key."""
    hosted.on_send(error="try again", code="PROVIDER_WEBHOOK_WIRE_FAILED", retryable=True)
    result = client.send_message("+1", "hi")
    assert (result.ok, result.attempts) == (True, 2)
    keys = {call.idempotency_key for call in hosted.sent_messages}
    assert keys == {result.idempotency_key}


@pytest.mark.parametrize("kind", ["cut", "garbage"])
def test_lost_answers(kind: Any, fake: FakeButtDialServer, client: Client) -> None:
    """A lost answer is asked for again only where the server honours the key; never sent twice."""
    add_fault(fake, kind, on="call")
    result = client.send_message("+1", "hi")
    assert len(fake.delivered) <= 1
    if kind == "garbage" or fake.dialect == "open-source":
        assert (result.outcome, result.attempts) == ("unknown", 1)
    else:
        assert (result.outcome, result.attempts) == ("sent", 2)
    assert result.idempotency_key


def test_broken_post(fake: FakeButtDialServer, client: Client) -> None:
    """A post that breaks once its bytes may have left is unknown until the deadline."""
    fake.fault("reset", on="call")
    result = client.send_message("+1", "hi", timeout=0.2)
    assert (result.outcome, result.attempts) == ("unknown", 1)


@pytest.mark.parametrize("on", ["stream", "post", "call"])
def test_refused_connections_are_retried(on: Any, fake: FakeButtDialServer, client: Client) -> None:
    """What never left is sent again, and once in the end."""
    fake.fault("refuse", on=on)
    result = client.send_message("+1", "hi")
    assert (result.outcome, len(fake.delivered)) == ("sent", 1)


@pytest.mark.parametrize(
    ("kind", "on"),
    [
        ("reset", "stream"),
        ("html", "stream"),
        ("redirect", "stream"),
        ("foreign_endpoint", "stream"),
        ("reset", "post"),
        ("garbage", "post"),
        ("jsonrpc_error", "post"),
    ],
)
def test_failed_opening_is_not_sent(
    kind: Any, on: Any, fake: FakeButtDialServer, client: Client
) -> None:
    """Whatever goes wrong before the message leaves, it was not sent."""
    add_fault(fake, kind, on=on, count=10)
    result = client.send_message("+1", "hi", timeout=0.2)
    assert result.outcome == "not_sent"
    assert fake.sent_messages == []


@pytest.mark.parametrize("location", ["http://[", "//h:99999/", "", "https://elsewhere.test/x"])
def test_redirects_are_not_followed(
    location: str, fake: FakeButtDialServer, client: Client
) -> None:
    """A redirect is never followed, however odd its target is, and told as a failure."""
    add_fault(fake, "redirect", on="stream", location=location, count=10)
    assert client.send_message("+1", "hi").outcome == "not_sent"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "origin", ["http://[::1", "https://h:99999", "https://butt-dial.test:8443"]
)
def test_odd_endpoints(origin: str, fake: FakeButtDialServer, client: Client) -> None:
    """An endpoint at another origin, or at none, gets no token."""
    add_fault(fake, "foreign_endpoint", on="stream", origin=origin, count=10)
    assert client.send_message("+1", "hi").outcome == "not_sent"
    assert fake.posts == 0


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": 5}],
        [{"name": "comms_send_message", "inputSchema": []}],
        [{"name": "another"}],
        [],
    ],
)
def test_odd_tool_lists(
    tools: list[dict[str, Any]], fake: FakeButtDialServer, client: Client
) -> None:
    """A schema that cannot be read stops the message that needs it: not sent, for certain."""
    set_tools(fake, tools)
    result = client.send_message("+1", "hi", media_url="https://x.test/a.png")
    assert result.outcome == "not_sent"
    assert fake.sent_messages == []


@pytest.mark.parametrize(
    "odd", [{"name": "x", "description": None, "annotations": None}, {"name": 5}, {"title": "x"}]
)
def test_an_odd_tool_does_not_hide_the_others(
    odd: dict[str, Any], hosted: FakeButtDialServer, client: Client
) -> None:
    """A server has tools of its own; a message does not need them."""
    odd = {"inputSchema": {"type": "object"}, **odd}
    set_tools(hosted, ["comms_send_message"])
    hosted.core.tools.schemas["odd"] = odd
    assert client.send_message("+14155550123", "hi", "sms", language="en").ok
    assert sent_args(hosted)["language"] == "en"


def test_a_refused_token_is_reported(fake: FakeButtDialServer) -> None:
    """A refused credential is a result like any other, and is never tried again by itself."""
    fake.revoke("old-secret-9")
    with Client(BASE_URL, agent_token="old-secret-9", sleep=lambda _: None) as client:
        result = client.send_message("+1", "hi")
    kind = AuthTokenRevokedError if fake.dialect == "hosted" else AuthInvalidTokenError
    assert (result.outcome, result.error_type, result.attempts) == ("rejected", kind.__name__, 1)
    assert (result.retryable, result.permanent, result.needs_operator) == (False, False, True)
    # The open-source server counts the attempt without ``?token=``, too.
    assert failed_logins(fake) == (1 if fake.dialect == "hosted" else 2)
    assert "old-secret" not in f"{result} {result.raw}"
    with pytest.raises(kind) as caught:
        result.raise_for_outcome()
    assert "old-secret" not in f"{caught.value} {caught.value.body}"


def test_a_lockout_is_reported(fake: FakeButtDialServer) -> None:
    """A lockout is reported with its time; it passes, so the message may be sent later."""
    fake.revoke("old-secret-9")
    with Client(BASE_URL, agent_token="old-secret-9", sleep=lambda _: None) as client:
        while failed_logins(fake) < 10:  # fewer calls where a missing token counts, too
            assert client.send_message("+1", "hi").needs_operator
            client.forget_refusals()
        result = client.send_message("+1", "hi", agent_token="good-secret")
    assert failed_logins(fake) == 10
    assert isinstance(result.exception, AuthLockedOutError)
    assert result.retryable
    assert result.retry_after is not None
    assert result.retry_after > 800


LIMITER: dict[str, Any] = {"status": 429, "body": {"error": "Too many requests (global limit)"}}


@pytest.mark.parametrize("place", ["stream", "call"])
def test_a_limiter_without_a_time_is_asked_once(place: Any, fake: FakeButtDialServer) -> None:
    """Its window is a minute: a call with less time fails at once, and makes no more requests."""
    fake.fault("status", on=place, count=9, **LIMITER)
    where = fake.core.dialect.token_in
    with Client(BASE_URL, agent_token=TOKEN, timeout=30.0, token_in=where) as client:
        result = client.send_message("+1", "hi")
    limited = [each for each in fake.requests if each.path == "/sse" or each.method == "POST"]
    assert len(limited) == (1 if place == "stream" else 4)  # the handshake, and the call
    assert (result.failed, result.retryable, result.attempts) == (True, True, 1)
    assert (result.error_type, result.retry_after) == ("RateLimitError", 60.0)


@pytest.mark.parametrize("place", ["stream", "call"])
def test_a_limiter_is_waited_for(place: Any, fake: FakeButtDialServer) -> None:
    """With more than a minute, the call waits for the end of the window and succeeds."""
    fake.fault("status", on=place, **LIMITER)
    slept: list[float] = []
    where = fake.core.dialect.token_in
    with Client(
        BASE_URL, agent_token=TOKEN, timeout=90.0, token_in=where, sleep=slept.append
    ) as client:
        result = client.send_message("+1", "hi")
    assert (result.ok, result.attempts, slept) == (True, 2, [60.0])


def test_another_agent(fake: FakeButtDialServer, client: Client) -> None:
    """``agent_token`` at the call sends as that agent, over a session of its own."""
    client.send_message("+1", "hi")
    client.send_message("+1", "hi", agent_token="agent-secret-2")
    assert [call.token for call in fake.sent_messages] == [TOKEN, "agent-secret-2"]
    assert fake.streams_opened == 2
