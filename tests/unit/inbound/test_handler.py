"""Who may come in, what is handed over, and how often."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from buttdial_sync import (
    AccountVerified,
    DeliveryInProgressError,
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    InboundReport,
    InboundResponse,
    MemoryDeliveryLog,
    StatusUpdate,
    UnreadableEvent,
    WaitingMessage,
)
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ConfigError
from buttdial_sync.inbound.authentication import WebhookAuthenticator
from buttdial_sync.inbound.native import parse_waiting
from buttdial_sync.models.converter import structure
from buttdial_sync.testing.simulate import HostSimulator
from tests.unit.inbound.test_native import HOSTED

NOW = 1_767_000_000.0
SIMULATOR = HostSimulator(whatsapp_secret="app-secret", now=lambda: NOW)
BOTH_HEADERS = {"X-BD-Signature", "X-BD-Timestamp"}


def fields(**wanted: Any) -> dict[str, Any]:
    return wanted


def make(**options: Any) -> tuple[InboundHandler, list[Any]]:
    options.setdefault("allow_unsigned", ["butt-dial"])
    options.setdefault("whatsapp_webhook_secret", "app-secret")
    options.setdefault("account_webhook_secret", "webhook-secret")
    inbound, got = InboundHandler(now=lambda: NOW, **options), list[Any]()
    inbound.on_message(got.append)
    inbound.on_delivery_receipt(got.append)
    inbound.on_status_update(got.append)
    inbound.on_account_verified(got.append)
    return inbound, got


def whatsapp(inbound: InboundHandler, *texts: str) -> InboundResponse:
    messages = [{"id": f"wamid.{text}", "text": {"body": text}} for text in texts]
    delivery = SIMULATOR.whatsapp(*messages)
    return inbound.handle("whatsapp", delivery.body, delivery.headers)


def own(inbound: InboundHandler, **fields: Any) -> InboundResponse:
    return inbound.handle("butt-dial", json.dumps({**HOSTED, **fields}).encode(), {})


def account(inbound: InboundHandler, **fields: Any) -> InboundResponse:
    delivery = SIMULATOR.account_verified(**fields)
    return inbound.handle("account", delivery.body, delivery.headers)


def test_good_signatures() -> None:
    """Each channel by its own signature."""
    inbound, got = make()
    assert [whatsapp(inbound, "a").status, own(inbound).status, account(inbound).status] == [
        200
    ] * 3
    assert [type(event) for event in got] == [InboundMessage, InboundMessage, AccountVerified]


@pytest.mark.parametrize("channel", ["whatsapp", "butt-dial", "account", "elsewhere", ""])
def test_closed_without_a_secret(channel: str) -> None:
    """A channel that the host neither gave a secret nor opened refuses everything."""
    inbound = InboundHandler(whatsapp_webhook_secret="", account_webhook_secret="")
    for delivery in (
        SIMULATOR.whatsapp({"text": {"body": "a"}}),
        SIMULATOR.message(),
        SIMULATOR.account_verified(),
    ):
        assert inbound.handle(channel, delivery.body, delivery.headers).status == 401


def test_a_secret_wins_over_allow_unsigned() -> None:
    """Where there is a secret, unsigned webhooks are refused, but for Butt-Dial's own."""
    inbound, got = make(allow_unsigned=["whatsapp", "butt-dial", "account"])
    unsigned = HostSimulator(now=lambda: NOW).whatsapp({"text": {"body": "a"}})
    assert inbound.handle("whatsapp", unsigned.body, unsigned.headers).status == 401
    assert inbound.handle("account", SIMULATOR.account_verified().body, {}).status == 401
    assert own(inbound).status == 200
    assert len(got) == 1


def test_a_signature_on_butt_dials_own_is_checked() -> None:
    """A wrong one is refused even where none is needed; a good one needs no open door."""
    inbound, got = make()
    closed, _ = make(allow_unsigned=[])
    signed = SIMULATOR.account_verified(**fields(event=None, **HOSTED))
    wrong = {**signed.headers, "X-BD-Signature": "hmac-sha256=00"}
    assert inbound.handle("butt-dial", signed.body, wrong).status == 401
    assert inbound.handle("butt-dial", signed.body, signed.headers).status == 200
    assert closed.handle("butt-dial", signed.body, signed.headers).status == 200
    assert closed.handle("butt-dial", signed.body, {}).status == 401
    assert len(got) == 1


def test_no_account_event_through_an_open_door() -> None:
    """An unsigned message cannot plant a credential."""
    inbound, got = make()
    body = SIMULATOR.account_verified(**fields(sender="x", channel="sms", body="x")).body
    assert inbound.handle("butt-dial", body, {}).status == 200
    assert got == []


def test_each_channel_reads_its_own_format_only() -> None:
    """WhatsApp's format does not come in by the open door, nor ours by WhatsApp's."""
    inbound, got = make(allow_unsigned=["butt-dial", "whatsapp"], whatsapp_webhook_secret=None)
    assert (
        inbound.handle("butt-dial", SIMULATOR.whatsapp({"text": {"body": "a"}}).body, {}).status
        == 200
    )
    assert inbound.handle("whatsapp", json.dumps(HOSTED).encode(), {}).status == 200
    assert got == []


def test_secret_by_organisation(caplog: pytest.LogCaptureFixture) -> None:
    """A function finds the secret; None refuses, and its own failure is for the sender to retry."""

    def find(org_id: str) -> str | None:
        if org_id == "org-3":
            raise ValueError("the database is away")
        return {"org-1": "webhook-secret"}.get(org_id)

    inbound, got = make(account_webhook_secret=find)
    assert account(inbound).status == 200
    assert account(inbound, orgId="org-2").status == 401
    assert account(inbound, orgId=None).status == 401
    assert account(inbound, orgId=["x"]).status == 401
    assert account(inbound, orgId="org-3").status == 500
    headers = SIMULATOR.account_verified().headers
    assert inbound.handle("account", b"{", headers).status == 400
    assert inbound.handle("account", b"[]", headers).status == 401
    assert len(got) == 1


def test_headers_in_any_case() -> None:
    """Frameworks write headers in different ways."""
    for change in (str.lower, str.upper, str.title):
        inbound, got = make()
        delivery = SIMULATOR.account_verified()
        headers = {change(name): value for name, value in delivery.headers.items()}
        assert inbound.handle("account", delivery.body, headers).status == 200
        assert got[0].delivery_id == delivery.headers["X-BD-Delivery-Id"]


def test_too_large() -> None:
    """A body over the limit is not looked at; one at the limit is."""
    inbound, _ = make(max_body_bytes=100)
    assert inbound.handle("butt-dial", b"x" * 101, {}).status == 413
    assert inbound.handle("butt-dial", b'"' + b"x" * 98 + b'"', {}).status == 200


def test_not_json() -> None:
    """What is no JSON is answered 400 after its signature was found good."""
    inbound, _ = make()
    assert inbound.handle("butt-dial", b"{", {}).status == 400
    assert inbound.handle("whatsapp", b"{", {}).status == 401


def test_answers_say_what_became_of_it() -> None:
    """The body is JSON for people who look at it."""
    inbound, _ = make()
    answers = [own(inbound), own(inbound), own(inbound, echo=True)]
    assert [json.loads(answer.body)["status"] for answer in answers] == [
        "handled",
        "repeated",
        "ignored",
    ]
    assert {answer.content_type for answer in answers} == {"application/json"}


@pytest.mark.parametrize("other", [{"channel": "sms"}, {"messageId": "m2"}])
def test_once_by_id_and_channel(other: dict[str, str]) -> None:
    """The same message comes once, whichever way; another id or channel is another message."""
    inbound, got = make()
    for _ in range(3):
        assert own(inbound).status == 200
    inbound.dispatch(HOSTED)
    own(inbound, **other)
    assert len(got) == 2


def test_without_an_id_the_delivery_counts() -> None:
    """A message without an id is known by its delivery; without either it always comes."""
    inbound, got = make()
    body = json.dumps({**HOSTED, "messageId": None}).encode()
    for headers in ({"X-BD-Delivery-Id": "d1"}, {"X-BD-Delivery-Id": "d1"}, {}, {}):
        assert inbound.handle("butt-dial", body, headers).status == 200
    assert len(got) == 3


def test_receipts_count_by_status() -> None:
    """Each status of a message comes once."""
    inbound, got = make()
    for status in ("sent", "delivered", "sent", "read", "delivered"):
        inbound.dispatch({"messageId": "m1", "status": status, "channel": "sms"})
    assert [event.status for event in got] == ["sent", "delivered", "read"]


def test_a_failure_is_retried_without_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """500 for the sender; the retry calls only the handler that failed, for its message only."""
    inbound, got = make()
    failing: list[str] = ["b"]
    tried: list[str] = []

    @inbound.on_message
    def picky(message: InboundMessage) -> None:
        tried.append(message.text)
        if message.text in failing:
            raise OSError("the database is away")

    assert whatsapp(inbound, "a", "b", "c").status == 500
    assert [event.text for event in got] == tried == ["a", "b", "c"]
    assert "picky" in caplog.text
    failing.clear()
    assert whatsapp(inbound, "a", "b", "c").status == 200
    assert [event.text for event in got] == ["a", "b", "c"]
    assert tried == ["a", "b", "c", "b"]
    assert json.loads(whatsapp(inbound, "a", "b", "c").body)["repeated"] == 3


def test_one_that_raises_does_not_stop_the_others() -> None:
    """Handlers run in the order in which they were added, whatever becomes of the others."""
    inbound, got = make()
    ran: list[str] = []
    for name in "abc":

        @inbound.on_message
        def handler(_: InboundMessage, name: str = name) -> None:
            ran.append(name)
            raise ValueError(name)

    assert own(inbound).status == 500
    assert ran == ["a", "b", "c"]
    assert len(got) == 1


def test_a_crashed_worker() -> None:
    """While a claim is good the sender is asked to come again; it ends with its lease."""
    clock = [0.0]

    class Crashing(MemoryDeliveryLog):
        def release(self, delivery_id: str, token: str) -> None:
            """The process is gone before it comes to that."""

    inbound, got = make(delivery_log=Crashing(clock=lambda: clock[0]), lease=60)
    crashes = iter([True, False])

    @inbound.on_message
    def crash_once(_: InboundMessage) -> None:
        if next(crashes):
            raise SystemExit

    with pytest.raises(SystemExit):
        own(inbound)
    assert own(inbound).status == 500
    clock[0] = 60.0
    assert own(inbound).status == 200
    assert own(inbound).status == 200
    assert len(got) == 1
    assert next(crashes, None) is None


@pytest.mark.parametrize("broken", ["claim", "done", "release"])
def test_a_log_that_fails(broken: str) -> None:
    """Without a claim nothing is called; after the handler a fault changes nothing."""

    class Broken(MemoryDeliveryLog):
        pass

    def fail(*_: object) -> bool:
        raise OSError("the database is away")

    setattr(Broken, broken, fail)
    inbound, got = make(delivery_log=Broken())
    assert own(inbound).status == (500 if broken == "claim" else 200)
    assert len(got) == (0 if broken == "claim" else 1)
    inbound.on_message(fail)
    assert own(inbound, messageId="m2").status == 500


def test_a_log_that_cannot_tell() -> None:
    """A claim that is None is a repetition."""

    class Never(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> None:
            assert lease == 300.0

    inbound, got = make(delivery_log=Never())
    assert own(inbound).status == 200
    assert got == []


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_handler_that_fails_after_another_took_over() -> None:
    """The first outlives its lease and fails; the second has succeeded, and that is remembered."""
    clock, calls = Clock(), list[str]()
    inbound = InboundHandler(
        allow_unsigned=["butt-dial"], delivery_log=MemoryDeliveryLog(clock=clock), lease=1.0
    )

    @inbound.on_message
    def handler(_: InboundMessage) -> None:
        calls.append("call")
        if len(calls) == 1:
            clock.now = 1.1
            second.append(own(inbound))
            raise OSError("too slow, and then this")

    second: list[InboundResponse] = []
    assert own(inbound).status == 500
    assert json.loads(second[0].body)["status"] == "handled"
    clock.now = 3.0
    assert json.loads(own(inbound).body)["status"] == "repeated"
    assert calls == ["call"] * 2


class OldLog:
    """As a host may have written it for an earlier release."""

    def claim(self, delivery_id: str, lease: float) -> bool:
        return True

    def done(self, delivery_id: str) -> None:
        pass

    def release(self, delivery_id: str) -> None:
        pass


class HalfOldLog(OldLog):
    def done(self, delivery_id: str, token: str = "") -> None:
        pass

    release = done


class NoLog(OldLog):
    done = None  # type: ignore[assignment]


@pytest.mark.parametrize("log", [OldLog(), NoLog(), object()], ids=["old", "no done", "object"])
def test_a_log_with_the_old_methods_is_refused(log: Any) -> None:
    """Making the handler says what to change."""
    with pytest.raises(ConfigError, match="the delivery log") as error:
        InboundHandler(delivery_log=log)
    assert "done(delivery_id, token)" in str(error.value.remediation)


def test_a_claim_without_a_token_is_refused() -> None:
    """A log whose claim still returns a bool is told so; no handler is called without a claim."""
    log: Any = HalfOldLog()
    inbound, got = make(delivery_log=log)
    with pytest.raises(ConfigError, match="returned a bool"):
        inbound.dispatch(HOSTED)
    assert own(inbound).status == 500
    assert got == []


def test_busy_elsewhere() -> None:
    """What another worker is at is neither handled nor repeated: come again."""

    class Busy(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> str:
            raise DeliveryInProgressError(delivery_id)

    inbound, _ = make(delivery_log=Busy())
    assert inbound.dispatch(HOSTED) == InboundReport(busy=1)


@pytest.mark.parametrize("message_id", ["x" * 5_000, "a\x00b", "ü", "a\nb"])
def test_keys_that_every_database_holds(message_id: str) -> None:
    """Whatever a stranger makes of an id, the log gets short printable ASCII."""
    keys: list[str] = []

    class Keep(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> str | None:
            keys.append(delivery_id)
            return super().claim(delivery_id, lease)

    inbound, got = make(delivery_log=Keep())
    for _ in range(2):
        assert own(inbound, messageId=message_id).status == 200
    assert len(got) == 1
    for key in keys:
        assert len(key) <= 255
        assert key.isascii()
        assert key.isprintable()


def test_decorators_with_and_without_parentheses() -> None:
    """Both, by place and by name; the function stays what it was."""
    inbound, ran = InboundHandler(), list[str]()

    def handler(name: str) -> Callable[[Any], None]:
        return lambda _: ran.append(name)

    plain = handler("bare")
    assert inbound.on_message(plain) is plain
    inbound.on_message()(handler("empty"))
    inbound.on_message("whatsapp")(handler("whatsapp"))
    inbound.on_message(channel="sms")(handler("sms"))
    inbound.on_delivery_receipt(handler("receipt"))
    inbound.on_delivery_receipt()(handler("receipt()"))
    inbound.on_status_update(handler("status"))
    inbound.on_status_update()(handler("status()"))
    inbound.on_account_verified(handler("account"))
    inbound.on_account_verified()(handler("account()"))
    inbound.dispatch(HOSTED)
    assert ran == ["bare", "empty", "whatsapp"]
    ran.clear()
    inbound.dispatch_event(DeliveryReceipt(message_sid="1", status="read"))
    inbound.dispatch_event(StatusUpdate(kind="x"))
    inbound.dispatch_event(AccountVerified(org_id="1", team_token="t"))
    assert ran == ["receipt", "receipt()", "status", "status()", "account", "account()"]


def test_a_handler_is_a_plain_function() -> None:
    """A coroutine would never run; what is no function is refused."""
    inbound = InboundHandler()

    async def coroutine(_: object) -> None: ...

    for wrong in (coroutine, "text"):
        with pytest.raises(ArgumentTypeError):
            inbound.on_message()(wrong)  # type: ignore[type-var]
    with pytest.raises(ArgumentTypeError):
        inbound.on_message(5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow_unsigned": "butt-dial"}, ArgumentTypeError),
        ({"allow_unsigned": ["sms"]}, ArgumentValueError),
        ({"max_body_bytes": 0}, ArgumentValueError),
        ({"max_body_bytes": "1"}, ArgumentTypeError),
        ({"whatsapp_webhook_secret": b"x"}, ArgumentTypeError),
        ({"whatsapp_verify_token": 5}, ArgumentTypeError),
        ({"lease": 0}, ArgumentValueError),
    ],
)
def test_wrong_settings(options: dict[str, Any], error: type[ConfigError]) -> None:
    """Settings that cannot be right are refused at once."""
    with pytest.raises(error):
        InboundHandler(**options)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"hub.verify_token": "guessed"}, 403),
        ({"hub.verify_token": ""}, 403),
        ({"hub.mode": "unsubscribe"}, 403),
        ({"hub.challenge": "<\n>"}, 403),
        ({"hub.challenge": "ü"}, 403),
    ],
)
def test_subscription(change: dict[str, str], status: int) -> None:
    """The challenge comes back as plain text to whoever knows the verify token."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "v-token", "hub.challenge": "1158201444"}
    answer = InboundHandler(whatsapp_verify_token="v-token").verify_subscription(
        {**query, **change}
    )
    assert answer.status == status
    if status == 200:
        assert (answer.body, answer.content_type) == ("1158201444", "text/plain")


def test_subscription_without_a_token() -> None:
    """A host that set none subscribes to nothing."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "", "hub.challenge": "1"}
    assert InboundHandler().verify_subscription(query).status == 403
    assert InboundHandler(whatsapp_verify_token="").verify_subscription(query).status == 403
    assert InboundHandler(whatsapp_verify_token="x").verify_subscription({}).status == 403


def test_no_secret_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Neither secrets nor credentials are in what a person may read."""
    caplog.set_level(logging.DEBUG)
    inbound, _ = make(
        whatsapp_webhook_secret="secret-1",
        account_webhook_secret="webhook-secret",
        whatsapp_verify_token="secret-3",
    )

    @inbound.on_account_verified
    def fail(_: AccountVerified) -> None:
        raise ValueError("no room")

    assert account(inbound, teamToken="secret-4").status == 500
    account(inbound, teamToken="secret-4", orgId=None)
    text = caplog.text + repr(inbound) + repr(inbound._authenticator)
    text += repr(WebhookAuthenticator(whatsapp_secrets=("secret-1",)))
    text += repr(WebhookAuthenticator(account_secrets=("webhook-secret",)))
    for secret in ("secret-1", "webhook-secret", "secret-3", "secret-4"):
        assert secret not in text


@pytest.mark.parametrize(
    ("challenge", "status"),
    [("x" * 1000, 200), ("x" * 1001, 403), (" ~", 200), ("\x7f", 403), ("", 200)],
)
def test_limits_of_the_challenge(challenge: str, status: int) -> None:
    """A thousand printable characters are sent back; a stranger's page is not."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "v", "hub.challenge": challenge}
    answer = InboundHandler(whatsapp_verify_token="v").verify_subscription(query)
    assert answer.status == status
    assert (answer.body == challenge) is (status == 200)


def test_keys_of_events() -> None:
    """What an event is remembered by stays as it is: hosts keep these keys in their databases."""
    keys: list[str] = []

    class Keep(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> str | None:
            keys.append(delivery_id.partition("#")[0])
            return super().claim(delivery_id, lease)

    inbound, got = make(delivery_log=Keep())
    own(inbound)
    body = json.dumps({**HOSTED, "messageId": None}).encode()
    inbound.handle("butt-dial", body, {"X-BD-Delivery-Id": "d1"})
    inbound.dispatch({"messageId": "m1", "status": "read", "channel": "sms"})
    inbound.dispatch_event(StatusUpdate(kind="quality", id="s1", channel="sms"))
    inbound.dispatch_event(AccountVerified(org_id="1", team_token="t", delivery_id="d1"))
    assert keys == [
        "unsigned:message:whatsapp:agent-1:m1",
        "unsigned:delivery:d1:0",
        "unsigned:receipt:sms:m1:read",
        "unsigned:status:sms:s1:quality",
        "unsigned:delivery:d1",
    ]
    assert len(got) == 5
    keys.clear()
    delivery = SIMULATOR.account_verified()
    inbound.handle("account", delivery.body, delivery.headers)
    waited = {"source": "queue", "verified": True, "id": "m2", "external_id": "m2"}
    inbound.dispatch_event(attrs.evolve(got[0], **waited))
    inbound.dispatch_event(StatusUpdate(kind="quality", id="s2", source="push", verified=True))
    whatsapp(inbound, "a")
    assert keys == [
        f"delivery:{delivery.headers['X-BD-Delivery-Id']}:0",
        f"signature:{delivery.headers['X-BD-Signature']}:0",
        "message:whatsapp:agent-1:m2",
        "unsigned:message:whatsapp:agent-1:m2",
        "status:None:s2:quality",
        "unsigned:status:None:s2:quality",
        "message:whatsapp::wamid.a",
    ]


def test_the_usual_limit_of_a_body() -> None:
    """One mebibyte comes in, a byte more does not."""
    inbound, _ = make()
    assert inbound.max_body_bytes == 1_048_576
    body = b'"' + b"x" * (1_048_576 - 2) + b'"'
    assert inbound.handle("butt-dial", body, {}).status == 200
    assert inbound.handle("butt-dial", body + b" ", {}).status == 413


def test_a_refusal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the channel, of which a stranger may write only so much."""
    inbound, _ = make()
    inbound.handle("x" * 99, b"", {})
    assert caplog.messages == [
        f"a webhook for '{'x' * 39} was refused: no valid signature",
    ]


def test_what_fails_otherwise_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where the host's function for the secret fails, the sender is asked to try again."""

    def find(_: str) -> str:
        raise OSError("the database is away")

    inbound, _ = make(account_webhook_secret=find)
    answer = account(inbound)
    assert (answer.status, answer.content_type) == (500, "application/json")
    assert json.loads(answer.body) == {"error": "it could not be handled; try again"}
    assert "a webhook could not be handled" in caplog.text
    assert "the database is away" in caplog.text


@pytest.mark.parametrize("org_id", ["", None, 5])
def test_no_secret_is_looked_up_without_an_id(org_id: object) -> None:
    """The host's function gets the id of a workspace, and nothing else; ``orgId`` comes first."""
    asked: list[str] = []

    def find(given: str) -> None:
        asked.append(given)

    inbound, _ = make(account_webhook_secret=find)
    assert account(inbound, orgId=org_id, org_id="other").status == 401
    assert asked == []
    delivery = SIMULATOR.account_verified()
    inbound.handle("account", b'{"org_id": "org-7"}', delivery.headers)
    assert asked[-1:] == ["org-7"]


@pytest.mark.parametrize("org_id", ["a\0b", "a\nb", "\ud83d", "x" * 256])
def test_no_secret_is_looked_up_for_what_is_no_id(org_id: str) -> None:
    """A database may refuse such a text: an error and a traceback for whatever a stranger sends."""
    asked: list[str] = []
    inbound, _ = make(account_webhook_secret=asked.append)
    delivery = SIMULATOR.account_verified()
    for each in (org_id, "1", "org 1", "x" * 255):
        body = json.dumps({"orgId": each}).encode()
        assert inbound.handle("account", body, delivery.headers).status == 401
    assert asked == ["1", "org 1", "x" * 255]


def test_no_secret_is_looked_up_for_an_old_delivery() -> None:
    """A stranger cannot make the host search by repeating what was signed once."""
    asked: list[str] = []
    inbound, _ = make(account_webhook_secret=asked.append)
    for signed_at in (NOW - 301, NOW + 301, NOW - 300, NOW + 300):
        delivery = SIMULATOR.account_verified(orgId=str(signed_at - NOW), signed_at=signed_at)
        assert inbound.handle("account", delivery.body, delivery.headers).status == 401
    assert asked == ["-300.0", "300.0"]


def test_the_function_for_a_secret_is_a_plain_function() -> None:
    """A coroutine is no secret: every delivery would be refused."""

    async def find(_: str) -> str:
        return "webhook-secret"

    with pytest.raises(ArgumentTypeError, match="account_webhook_secret must be a plain"):
        make(account_webhook_secret=find)


def test_an_empty_secret_is_none() -> None:
    """It would verify anything, so it closes a channel like None, or leaves it open."""
    inbound, got = make(
        whatsapp_webhook_secret="",
        account_webhook_secret="",
        allow_unsigned=["whatsapp", "account"],
    )
    delivery = HostSimulator(now=lambda: NOW).whatsapp({"text": {"body": "a"}})
    assert inbound.handle("whatsapp", delivery.body, delivery.headers).status == 200
    body = SIMULATOR.account_verified().body
    assert inbound.handle("account", body, {}).status == 200
    assert len(got) == 2


@pytest.mark.parametrize("missing", [{"X-BD-Signature"}, {"X-BD-Timestamp"}, BOTH_HEADERS], ids=len)
def test_half_a_signature(missing: set[str]) -> None:
    """Both headers are needed; without them a stranger makes the host look nothing up."""
    asked: list[str] = []
    inbound, got = make(account_webhook_secret=asked.append)
    delivery = SIMULATOR.account_verified()
    headers = {name: value for name, value in delivery.headers.items() if name not in missing}
    assert inbound.handle("account", delivery.body, headers).status == 401
    assert (got, asked) == ([], [])


def test_what_is_not_for_us() -> None:
    """Account events that nobody knows are taken and ignored."""
    inbound, got = make()
    answer = account(inbound, event="account.deleted")
    assert answer.status == 200
    assert json.loads(answer.body)["status"] == "ignored"
    assert got == []


def test_a_message_that_lacks_a_part(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has it, so the answer is not 2xx: the server keeps it. The others are handed over."""
    inbound, got = make()
    body = SIMULATOR.whatsapp({"text": {"body": "a"}}, {"text": {"body": ""}, "id": "wamid.2"})
    for _ in range(2):
        answer = inbound.handle("whatsapp", body.body, body.headers)
        assert answer.status == 422
    assert own(inbound, **{"from": None}).status == 422
    assert account(inbound, teamToken=None).status == 422
    assert [event.text for event in got] == ["a"]
    assert caplog.messages == [
        f"1 messages on {channel} lack a part and were refused: add a handler with on_unreadable"
        for channel in ("whatsapp", "whatsapp", "butt-dial", "account")
    ]


def test_a_handler_of_what_cannot_be_read() -> None:
    """It keeps it, once; if it fails, the sender tries again."""
    inbound, got = make()
    kept: list[UnreadableEvent] = []
    failures = [OSError("the disk is full")]

    @inbound.on_unreadable
    def keep(event: UnreadableEvent) -> None:
        if failures:
            raise failures.pop()
        kept.append(event)

    assert [own(inbound, **{"from": None}).status for _ in range(3)] == [500, 200, 200]
    assert got == []
    (event,) = kept
    assert (event.id, event.reason) == ("m1", "it has no sender")
    assert (event.source, event.verified) == ("butt_dial_webhook", False)
    assert event.raw == {**HOSTED, "from": None}
    assert inbound.dispatch_event(event) == InboundReport(repeated=1)


def test_what_a_body_did() -> None:
    """The answer counts; several messages of a body are told apart by their number."""
    inbound, got = make()
    assert json.loads(whatsapp(inbound, "a", "b").body) == {
        "status": "handled", "handled": 2, "repeated": 0, "failed": 0, "unreadable": 0,
    }  # fmt: skip
    assert json.loads(whatsapp(inbound, "b", "c").body) == {
        "status": "handled", "handled": 1, "repeated": 1, "failed": 0, "unreadable": 0,
    }  # fmt: skip
    assert json.loads(whatsapp(inbound, "c").body)["status"] == "repeated"
    assert len(got) == 3


def test_a_payload_that_is_not_an_object() -> None:
    """Valid JSON of another kind is taken and ignored, on every channel."""
    inbound, _ = make(
        whatsapp_webhook_secret=None,
        account_webhook_secret=None,
        allow_unsigned=["whatsapp", "butt-dial", "account"],
    )
    for channel in ("whatsapp", "butt-dial", "account"):
        for body in (b"[]", b"5", b"null"):
            assert json.loads(inbound.handle(channel, body, {}).body)["status"] == "ignored"


def whatsapp_changes(*values: dict[str, Any]) -> dict[str, Any]:
    return {"object": "x", "entry": [{"changes": [{"value": each} for each in values]}]}


@pytest.mark.parametrize(
    ("channel", "payload", "names"),
    [
        ("butt-dial", {"message": {"from": "+4179", "body": "hi"}, "at": 1}, "['at', 'message']"),
        ("butt-dial", {"status": "bounced", "messageId": "+4179"}, "['messageId', 'status']"),
        ("butt-dial", [{"from": "+4179", "body": "hi"}], "a list"),
        ("butt-dial", None, "a NoneType"),
        ("account", {"event": "account.+4179", "orgId": "o"}, "['event', 'orgId']"),
        (
            "whatsapp",
            whatsapp_changes({"statuses": [{"id": "+4179", "status": "deleted"}]}, {"errors": []}),
            "['entry', 'object', 'errors', 'statuses']",
        ),
        ("whatsapp", {"entry": {"changes": "+4179"}}, "['entry']"),
        ("butt-dial", {"a\nb": 1, "x" * 500: 1}, f"['a\\nb', '{'x' * 290}"),
    ],
)
def test_a_delivery_that_brings_nothing_is_told(
    channel: str, payload: Any, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, by the names that are in it: a server may have a new format. Never by its values."""
    inbound = InboundHandler(allow_unsigned=["whatsapp", "butt-dial", "account"])
    for _ in range(2):
        answer = inbound.handle(channel, json.dumps(payload).encode(), {})
        assert json.loads(answer.body)["status"] == "ignored"
    assert caplog.messages == [
        f"a delivery that holds no known event was ignored, on {channel}: {names}"
    ]


def test_strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of delivery that brings nothing is told, up to twenty."""
    inbound, _ = make()
    for number in range(30):
        inbound.handle("butt-dial", json.dumps({f"x{number}": 1}).encode(), {})
    assert len(caplog.messages) == 20


@pytest.mark.parametrize("mark", [{"isEcho": True}, {"direction": "outbound"}])
def test_an_echo_is_not_told(mark: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """It is known, and meant to bring nothing."""
    inbound, got = make()
    assert json.loads(own(inbound, **mark).body)["status"] == "ignored"
    assert (got, caplog.messages) == ([], [])


def test_repr_says_what_is_open() -> None:
    """And nothing else."""
    inbound = InboundHandler(allow_unsigned=["whatsapp", "account"])
    assert repr(inbound) == "InboundHandler(allow_unsigned=['account', 'whatsapp'])"


def test_an_unknown_channel_is_named() -> None:
    """A host that misspells one learns which there are."""
    with pytest.raises(ArgumentValueError, match=r"\['sms'\].*\['account', 'butt-dial', 'whatsapp"):
        InboundHandler(allow_unsigned=["sms", "account"])


def signed(**fields: Any) -> tuple[bytes, dict[str, str]]:
    """A message in Butt-Dial's own format that is signed."""
    delivery = SIMULATOR.account_verified(event=None, **{**HOSTED, **fields})
    return delivery.body, dict(delivery.headers)


def test_where_an_event_comes_from() -> None:
    """Each webhook says which it was, and whether its signature was checked."""
    inbound, got = make()
    whatsapp(inbound, "a")
    own(inbound)
    inbound.handle("butt-dial", *signed())
    account(inbound)
    inbound.dispatch({**HOSTED, "messageId": "m2"})
    assert [(event.source, event.verified) for event in got] == [
        ("whatsapp_webhook", True),
        ("butt_dial_webhook", False),
        ("butt_dial_webhook", True),
        ("account_webhook", True),
        (None, False),
    ]
    opened, got = make(whatsapp_webhook_secret=None, allow_unsigned=["whatsapp"])
    whatsapp(opened, "a")
    assert [(event.source, event.verified) for event in got] == [("whatsapp_webhook", False)]


def test_a_stranger_neither_suppresses_nor_poses() -> None:
    """A message of a stranger with the id of a signed one is another message, in both orders."""
    inbound, got = make()
    proven: list[Any] = []
    inbound.on_message("whatsapp", verified_only=True)(proven.append)
    forged = {"channel": "whatsapp", "agentId": None, "body": "forged"}
    assert own(inbound, messageId="wamid.a", **forged).status == 200
    assert whatsapp(inbound, "a").status == 200
    assert whatsapp(inbound, "b").status == 200
    assert own(inbound, messageId="wamid.b", **forged).status == 200
    assert [(event.text, event.verified) for event in got] == [
        ("forged", False),
        ("a", True),
        ("b", True),
        ("forged", False),
    ]
    assert [event.text for event in proven] == ["a", "b"]


def test_handlers_of_what_is_proven() -> None:
    """Each kind has them; an unsigned event for which there is no other handler is ignored."""
    inbound = InboundHandler()
    got: list[Any] = []
    inbound.on_message(verified_only=True)(got.append)
    inbound.on_delivery_receipt(verified_only=True)(got.append)
    inbound.on_status_update(verified_only=True)(got.append)
    inbound.on_account_verified(verified_only=True)(got.append)
    inbound.on_unreadable(verified_only=True)(got.append)
    events: list[Any] = [
        InboundMessage(sender="+1", channel="sms"),
        DeliveryReceipt(message_sid="1", status="read"),
        StatusUpdate(kind="x"),
        AccountVerified(org_id="1", team_token="t"),
    ]
    for event in events:
        assert inbound.dispatch_event(event) == InboundReport(handled=1)
    unreadable = UnreadableEvent(reason="x")
    assert inbound.dispatch_event(unreadable) == InboundReport(unreadable=1)
    assert got == []
    proven = [attrs.evolve(event, verified=True) for event in (*events, unreadable)]
    for event in proven:
        assert inbound.dispatch_event(event) == InboundReport(handled=1)
    assert got == proven


@pytest.mark.parametrize("is_signed", [True, False])
def test_what_came_by_webhook_and_waits(is_signed: bool) -> None:
    """A handler that had it is not called again, whether the webhook was signed or not."""
    inbound, got = make()
    failures = [OSError("the database is away")]

    @inbound.on_message
    def fail_once(_: InboundMessage) -> None:
        if failures:
            raise failures.pop()
        got.append("the other")

    body, headers = signed() if is_signed else (json.dumps(HOSTED).encode(), {})
    assert inbound.handle("butt-dial", body, headers).status == 500
    (waited,) = parse_waiting(
        WaitingMessage(
            external_id="m1",
            agent_id="agent-1",
            channel="whatsapp",
            from_="+1",
            body="x",
        )
    )
    assert inbound.dispatch_event(waited) == InboundReport(handled=1)
    assert inbound.dispatch_event(waited) == InboundReport(repeated=1)
    assert inbound.handle("butt-dial", body, headers).status == 200
    assert [getattr(event, "id", event) for event in got] == ["m1", "the other"]


@pytest.mark.parametrize("what", ["message", "failed message of ours", "unreadable"])
def test_a_stranger_who_knows_the_waiting_queues_ids(what: str) -> None:
    """No webhook ever had them, so what was posted under them does not count."""
    inbound, got = make()
    inbound.on_unreadable(got.append)
    known = {"id": "105", "channel": "sms", "agentId": "agent-1"}
    made = {
        "message": {"messageId": "105", "from": "+666", "body": "."},
        "failed message of ours": {"type": "status", "kind": "outbound_failed"},
        "unreadable": {"type": "message", "messageId": "105", "from": "+666"},
    }[what]
    assert inbound.handle("butt-dial", json.dumps({**known, **made}).encode(), {}).status == 200
    item: dict[str, Any] = {**known, "from": "+1", "body": "please call me"}
    if what == "unreadable":
        item["body"] = None
    if what == "failed message of ours":
        item["direction"] = "outbound"
    for _ in range(2):
        inbound.dispatch_waiting([structure(item, WaitingMessage, source="")])
    assert [(type(event), event.source) for event in got] == [
        (type(got[0]), "butt_dial_webhook"),
        (type(got[0]), "queue"),
    ]


def test_one_email_to_two_tenants() -> None:
    """One handler serves both, and what is posted to it names no agent."""
    inbound, _ = make()
    got: list[tuple[str | None, str]] = []

    @inbound.on_message
    def received(message: InboundMessage, tenant: str) -> None:
        got.append((message.to, tenant))

    both = {"type": "message", "messageId": "e1", "channel": "email", "from": "a@x.test"}
    for tenant in ("maya", "sam", "maya"):
        body = json.dumps({**both, "to": f"{tenant}@shop.test", "body": "to both of you"})
        answer = inbound.handle("butt-dial", body.encode(), {}, context=tenant)
        assert answer.status == 200
    assert got == [("maya@shop.test", "maya"), ("sam@shop.test", "sam")]


def test_one_email_to_two_agents() -> None:
    """Both hear of it: the provider gives it one id."""
    inbound, got = make()
    for agent in ("agent-1", "agent-2", "agent-1"):
        assert own(inbound, agentId=agent).status == 200
    assert [event.agent_id for event in got] == ["agent-1", "agent-2"]


@pytest.mark.parametrize("other_id", ["other", None])
def test_a_verified_account_is_known_by_its_signature_too(other_id: str | None) -> None:
    """The delivery's id is not signed, so a stranger who repeats it could write another one."""
    inbound, got = make()
    delivery = SIMULATOR.account_verified()
    headers = dict(delivery.headers)
    assert inbound.handle("account", delivery.body, headers).status == 200
    if other_id is None:
        del headers["X-BD-Delivery-Id"]
    else:
        headers["X-BD-Delivery-Id"] = other_id
    answer = inbound.handle("account", delivery.body, headers)
    assert json.loads(answer.body)["status"] == "repeated"
    assert len(got) == 1


def test_a_repetition_takes_no_other_deliverys_id() -> None:
    """A captured delivery under the id of another one does not suppress that one."""
    inbound, got = make()
    first = SIMULATOR.account_verified()
    second = HostSimulator(now=lambda: NOW - 1).account_verified(orgId="org-2")
    headers = {**first.headers, "X-BD-Delivery-Id": second.headers["X-BD-Delivery-Id"]}
    for body, sent in ((first.body, first.headers), (first.body, headers)):
        inbound.handle("account", body, sent)
    assert inbound.handle("account", second.body, second.headers).status == 200
    assert [event.org_id for event in got] == ["org-1", "org-2"]


def test_a_signature_that_nobody_checked_tells_nothing() -> None:
    """Without a secret a delivery is not known by it: others may bear the same."""
    inbound, got = make(account_webhook_secret=None, allow_unsigned=["account"])
    for org_id in ("org-1", "org-2"):
        body = SIMULATOR.account_verified(orgId=org_id).body
        assert inbound.handle("account", body, {"X-BD-Signature": "none"}).status == 200
    assert [event.org_id for event in got] == ["org-1", "org-2"]


def test_a_handler_that_returns_a_coroutine(caplog: pytest.LogCaptureFixture) -> None:
    """Its work was not done: that is an error, and the sender tries again."""
    inbound, _ = make()

    async def work(_: InboundMessage) -> None: ...

    def begin(message: InboundMessage) -> object:
        return work(message)

    inbound.on_message(begin)
    assert own(inbound).status == 500
    assert own(inbound).status == 500
    assert "the handler returned a coroutine, which nobody awaits" in caplog.text


class Tenant:
    def __init__(self) -> None:
        self.got: list[tuple[Any, object]] = []

    def __call__(self, event: Any, context: object) -> None:
        self.got.append((event, context))


def test_the_context_of_a_host() -> None:
    """A handler that needs two arguments gets it as its second; the others do not."""
    inbound, got = make()
    tenant = Tenant()
    optional: list[object] = []

    def with_default(_: InboundMessage, more: object = "mine") -> None:
        optional.append(more)

    inbound.on_message(tenant)
    inbound.on_message(lambda *arguments: optional.append(arguments[1:]))
    inbound.on_message(with_default)
    body = json.dumps(HOSTED).encode()
    assert inbound.handle("butt-dial", body, {}, context="acme").status == 200
    assert inbound.dispatch({**HOSTED, "messageId": "m2"}) == InboundReport(handled=1)
    assert [context for _, context in tenant.got] == ["acme", None]
    assert [event for event, _ in tenant.got] == got
    assert optional == [(), "mine"] * 2


@pytest.mark.parametrize("secret", ["old", "new"])
def test_two_secrets_at_once(secret: str) -> None:
    """While one replaces the other, both are right; a third is not."""
    inbound, got = make(
        whatsapp_webhook_secret=["old", "new"], account_webhook_secret=("old", "", "new")
    )
    for given, status in ((secret, 200), ("third", 401)):
        sender = HostSimulator(whatsapp_secret=given, account_secret=given, now=lambda: NOW)
        delivery = sender.whatsapp({"text": {"body": "a"}})
        assert inbound.handle("whatsapp", delivery.body, delivery.headers).status == status
        delivery = sender.account_verified()
        assert inbound.handle("account", delivery.body, delivery.headers).status == status
    assert len(got) == 2


def test_two_secrets_of_a_workspace() -> None:
    """The host's function may return several."""
    inbound, _ = make(account_webhook_secret={"org-1": ["webhook-secret", "new"]}.get)
    assert account(inbound).status == 200
    assert account(inbound, orgId="org-2").status == 401


@pytest.mark.parametrize("secrets", [[], [""], ["", None]])
def test_no_secret_in_a_list(secrets: list[Any]) -> None:
    """An empty one protects nothing, so the channel stays closed."""
    inbound, _ = make(
        whatsapp_webhook_secret=secrets, account_webhook_secret=secrets, allow_unsigned=[]
    )
    empty = HostSimulator(whatsapp_secret="", account_secret="", now=lambda: NOW)
    for channel, delivery in (
        ("whatsapp", empty.whatsapp({"text": {"body": "a"}})),
        ("account", empty.account_verified()),
    ):
        assert inbound.handle(channel, delivery.body, delivery.headers).status == 401


def test_a_strangers_channel_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot forge a line."""
    caplog.set_level(logging.INFO)
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    assert own(inbound, channel="sms\nERROR all is lost\x1b[2J" + "x" * 99).status == 200
    (line,) = caplog.messages
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 100


def test_a_body_that_is_expensive_to_read() -> None:
    """A mebibyte of empty objects is refused before it is read."""
    inbound, got = make()
    start = b'{"from": "+1", "body": "x", "attachments": ['
    body = start + b"{}," * ((inbound.max_body_bytes - len(start) - 4) // 3) + b"{}]}"
    assert inbound.handle("butt-dial", body, {}).status == 400
    assert got == []
