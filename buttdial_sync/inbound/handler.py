"""The handler of everything that comes in: webhooks, live push, the waiting queue."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, overload

import attrs

from buttdial_sync.errors import ArgumentTypeError
from buttdial_sync.inbound.authentication import (
    AccountSecret,
    Headers,
    WebhookAuthenticator,
    check_secret,
    check_unsigned,
    header,
)
from buttdial_sync.inbound.decoding import UnreadableError, decode_json
from buttdial_sync.inbound.deliveries import DeliveryLog, MemoryDeliveryLog
from buttdial_sync.inbound.dispatch import Dispatcher
from buttdial_sync.inbound.native import parse_account, parse_native
from buttdial_sync.inbound.signatures import same_secret
from buttdial_sync.inbound.whatsapp import looks_like_whatsapp, parse_whatsapp
from buttdial_sync.models.inbound import (
    AccountVerified,
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    StatusUpdate,
)
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import check_seconds

logger = logging.getLogger("buttdial_sync.inbound")

M = TypeVar("M", bound=Callable[[InboundMessage], object])
R = TypeVar("R", bound=Callable[[DeliveryReceipt], object])
S = TypeVar("S", bound=Callable[[StatusUpdate], object])
A = TypeVar("A", bound=Callable[[AccountVerified], object])

_MIB = 1024 * 1024
_JSON = "application/json"
# It is sent back: a stranger may not put line breaks or control characters into our answer.
_CHALLENGE = re.compile(r"[ -~]{0,1000}")


@attrs.frozen
class InboundResponse:
    """
    The answer to a webhook, for a framework to send.

    Attributes:
        status: The HTTP status.
        body: The body's text.
        content_type: The ``Content-Type``.
    """

    status: int
    body: str = ""
    content_type: str = _JSON


@attrs.frozen(kw_only=True)
class InboundReport:
    """
    The results of a payload's events.

    Attributes:
        handled: Handed to all their handlers, or without a handler.
        repeated: Handed over before.
        failed: A handler failed, or another process is still busy with it.
    """

    handled: int = 0
    repeated: int = 0
    failed: int = 0


class InboundHandler:
    """
    Checks, reads and hands over what comes in. Safe to share between threads and forks.

    Handlers are plain functions of one argument, the event. They run in the thread that called
    :meth:`handle`, in the order in which they were added. One that raises is logged, and the others
    run; the sender then tries again, and only those that failed are called again.

    Args:
        whatsapp_verify_token: The text that WhatsApp has to send when it subscribes.
        whatsapp_webhook_secret: WhatsApp's app secret, for its signature.
        account_webhook_secret: The webhook secret that registering returned, or a function from a
            workspace's id to its secret (None when there is none).
        allow_unsigned: Channels that are accepted without a signature if no secret is given:
            ``"whatsapp"``, ``"butt-dial"``, ``"account"``. Anybody can then write to them.
        max_body_bytes: Larger bodies are answered with 413.
        delivery_log: Remembers what was handed over; in this process's memory when None.
        lease: The time that a handler may take, in seconds, before it counts as crashed.
        now: The time in unix seconds, for tests.

    Raises:
        ConfigError: An argument is wrong, or the log's methods do not take what
            :class:`DeliveryLog` says.
    """

    def __init__(
        self,
        *,
        whatsapp_verify_token: str | None = None,
        whatsapp_webhook_secret: str | None = None,
        account_webhook_secret: AccountSecret | None = None,
        allow_unsigned: Collection[str] = (),
        max_body_bytes: int = _MIB,
        delivery_log: DeliveryLog | None = None,
        lease: float = 300.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._verify_token = check_secret(whatsapp_verify_token, "whatsapp_verify_token")
        self._authenticator = WebhookAuthenticator(
            whatsapp_secret=check_secret(whatsapp_webhook_secret, "whatsapp_webhook_secret"),
            account_secret=account_webhook_secret
            if callable(account_webhook_secret)
            else check_secret(account_webhook_secret, "account_webhook_secret"),
            allow_unsigned=check_unsigned(allow_unsigned),
            now=now,
        )
        self.max_body_bytes = check_count(max_body_bytes, "max_body_bytes")
        log = MemoryDeliveryLog() if delivery_log is None else delivery_log
        self._dispatcher = Dispatcher(log, check_seconds(lease, "lease"))

    @overload
    def on_message(self, channel: M, /) -> M: ...
    @overload
    def on_message(self, channel: str | None = None) -> Callable[[M], M]: ...
    def on_message(self, channel: Any = None) -> Any:
        """
        Add a handler of messages: ``@on_message``, ``@on_message()``, ``@on_message("sms")``.

        Args:
            channel: Only messages of this channel; of all when None.
        """
        if callable(channel):
            return self._dispatcher.register(channel, InboundMessage)
        if channel is not None and not isinstance(channel, str):
            raise ArgumentTypeError("channel must be text")
        return self._dispatcher.register(None, InboundMessage, channel)

    @overload
    def on_delivery_receipt(self, handler: R, /) -> R: ...
    @overload
    def on_delivery_receipt(self) -> Callable[[R], R]: ...
    def on_delivery_receipt(self, handler: Any = None) -> Any:
        """Add a handler of receipts for messages of ours."""
        return self._dispatcher.register(handler, DeliveryReceipt)

    @overload
    def on_status_update(self, handler: S, /) -> S: ...
    @overload
    def on_status_update(self) -> Callable[[S], S]: ...
    def on_status_update(self, handler: Any = None) -> Any:
        """Add a handler of news about channels, and of messages of ours that failed."""
        return self._dispatcher.register(handler, StatusUpdate)

    @overload
    def on_account_verified(self, handler: A, /) -> A: ...
    @overload
    def on_account_verified(self) -> Callable[[A], A]: ...
    def on_account_verified(self, handler: Any = None) -> Any:
        """Add a handler of verified accounts. It gets a credential: keep it, do not log it."""
        return self._dispatcher.register(handler, AccountVerified)

    def remove(self, handler: Callable[..., object]) -> None:
        """Remove a handler, from all kinds of events. Safe to call twice."""
        self._dispatcher.unregister(handler)

    def parse(self, payload: Any) -> list[InboundEvent]:
        """
        Read a decoded payload of any kind. The sender is not checked.

        Args:
            payload: WhatsApp's, Butt-Dial's own, or an account event.

        Returns:
            Its events in their order; none when it is unknown, not whole, or an echo.
        """
        if not isinstance(payload, Mapping):
            return []
        if looks_like_whatsapp(payload):
            return list(parse_whatsapp(payload))
        return parse_account(payload) or parse_native(payload)

    def dispatch(self, payload: Any) -> InboundReport:
        """
        Read a decoded payload and hand its events over. The sender is not checked.

        Exceptions of handlers are logged. Calling it twice hands nothing over twice.

        Args:
            payload: As in :meth:`parse`.

        Returns:
            The results of the events.
        """
        return self._dispatch(self.parse(payload))

    def dispatch_event(self, event: InboundEvent) -> InboundReport:
        """Hand an event over, as :meth:`dispatch` does with those of a payload."""
        return self._dispatch([event])

    def verify_subscription(self, query: Mapping[str, str]) -> InboundResponse:
        """
        Answer WhatsApp's GET that begins a subscription.

        Args:
            query: The query: ``hub.mode``, ``hub.verify_token``, ``hub.challenge``.

        Returns:
            200 with the challenge, or 403.
        """
        challenge = query.get("hub.challenge")
        if (
            query.get("hub.mode") != "subscribe"
            or not same_secret(query.get("hub.verify_token"), self._verify_token)
            or not isinstance(challenge, str)
            or not _CHALLENGE.fullmatch(challenge)
        ):
            return _answer(403, "the subscription is refused")
        return InboundResponse(200, challenge, "text/plain")

    def handle(self, channel: str, body: bytes, headers: Headers) -> InboundResponse:
        """
        Answer a webhook, whatever a stranger sends.

        Exceptions of a handler, of the delivery log or of the function for the secret are logged
        and answered with 500. Only those that end the process, such as ``SystemExit``, are raised.

        Args:
            channel: The channel of the address: ``"whatsapp"``, ``"butt-dial"`` (Butt-Dial's own
                messages) or ``"account"`` (``account.verified``).
            body: The body's bytes as they came.
            headers: The headers, in any letters' case.

        Returns:
            200 handled, repeated, or not for us; 400 not JSON; 401 a bad or missing signature, or a
            channel that is not open; 413 too large; 500 a handler failed: send it again.
        """
        try:
            return self._handle(channel, body, headers)
        except Exception:  # any other end, and the sender would not know to send it again
            logger.exception("a webhook could not be handled")
            return _answer(500, "it could not be handled; try again")

    def _handle(self, channel: str, body: bytes, headers: Headers) -> InboundResponse:
        # JSON is decoded after the signature was checked, except to find a workspace's secret.
        if len(body) > self.max_body_bytes:
            return _answer(413, "the body is too large")
        try:
            if not self._authenticator.authenticates(channel, body, headers):
                logger.warning("a webhook for %.40r was refused: no valid signature", channel)
                return _answer(401, "the signature is missing or wrong")
            payload = decode_json(body)
        except UnreadableError:
            return _answer(400, "the body is not JSON")
        delivery_id = header(headers, "x-bd-delivery-id")
        report = self._dispatch(_events(channel, payload, delivery_id), delivery_id)
        if report.failed:
            return _answer(500, "a handler failed; try again")
        status = "handled" if report.handled else "repeated" if report.repeated else "ignored"
        return InboundResponse(200, json.dumps({"status": status, **attrs.asdict(report)}))

    def _dispatch(
        self, events: Sequence[InboundEvent], delivery_id: str | None = None
    ) -> InboundReport:
        counts: Counter[str] = Counter()
        for number, event in enumerate(events):
            fallback = f"delivery:{delivery_id}:{number}" if delivery_id else None
            counts[self._dispatcher.dispatch(event, fallback)] += 1
        return InboundReport(**counts)

    def __repr__(self) -> str:
        return f"InboundHandler(allow_unsigned={sorted(self._authenticator.allow_unsigned)!r})"


def _events(channel: str, payload: Any, delivery_id: str | None) -> list[InboundEvent]:
    """Read a payload in the format of its channel only."""
    if not isinstance(payload, dict):
        return []
    if channel == "whatsapp":
        return list(parse_whatsapp(payload))
    if channel == "account":
        return parse_account(payload, delivery_id)
    return parse_native(payload)


def _answer(status: int, error: str) -> InboundResponse:
    return InboundResponse(status, json.dumps({"error": error}))
