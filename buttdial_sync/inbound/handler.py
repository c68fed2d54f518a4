"""The handler of everything that comes in: webhooks, live push, the waiting queue."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import attrs

from buttdial_sync._renamed import missing_attribute
from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.errors.scrubbing import SecretBytes, masked
from buttdial_sync.inbound.authentication import (
    SIGNATURE,
    AccountSecret,
    Headers,
    WebhookAuthenticator,
    by_lower_name,
    check_account_secrets,
    check_secret,
    check_secrets,
    check_unsigned,
)
from buttdial_sync.inbound.decoding import UnreadableError, decode_json
from buttdial_sync.inbound.deliveries import DeliveryLog, MemoryDeliveryLog
from buttdial_sync.inbound.dispatch import Dispatcher, InboundReport
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.inbound.native import is_ours, parse_account, parse_native, parse_waiting
from buttdial_sync.inbound.reading import Origin, names_in
from buttdial_sync.inbound.signatures import Secrets, same_secret
from buttdial_sync.inbound.web import (
    AsgiApplication,
    Request,
    Response,
    WsgiApplication,
    asgi_application,
    wsgi_application,
)
from buttdial_sync.inbound.whatsapp import looks_like_whatsapp, parse_whatsapp
from buttdial_sync.models.inbound import (
    AccountVerified,
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    Source,
    StatusUpdate,
    UnreadableEvent,
)
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import check_seconds

logger = logging.getLogger("buttdial_sync.inbound")

E = TypeVar("E")
Handler: TypeAlias = Callable[[E], object] | Callable[[E, Any], object]
M = TypeVar("M", bound=Handler[InboundMessage])
R = TypeVar("R", bound=Handler[DeliveryReceipt])
S = TypeVar("S", bound=Handler[StatusUpdate])
A = TypeVar("A", bound=Handler[AccountVerified])
U = TypeVar("U", bound=Handler[UnreadableEvent])

_MIB = 1024 * 1024
_JSON = "application/json"
_DELIVERY_ID = "x-bd-delivery-id"
_KINDS_TOLD = 20
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


_WITH_TOKENS = "account"
_SOURCES: Mapping[str, Source] = {
    "whatsapp": "whatsapp_webhook",
    "butt-dial": "butt_dial_webhook",
    "account": "account_webhook",
}


class InboundHandler:
    """
    Checks, reads and hands over what comes in. Safe to share between threads and forks.

    Handlers are plain functions of one argument, the event; if they need two, the second is the
    ``context`` of :meth:`handle`. They run in the thread that called :meth:`handle`, in the order
    in which they were added. One that raises, or returns a coroutine, is logged, and the others
    run; the sender then tries again, and only those that failed are called again. With
    ``verified_only=True`` a handler gets only events whose ``verified`` is true.

    Args:
        whatsapp_verify_token: The text that WhatsApp has to send when it subscribes.
        whatsapp_webhook_secret: WhatsApp's app secret, for its signature.
        account_webhook_secret: The webhook secret that registering returned, or a function from a
            workspace's id to its secret (None when there is none). Where one secret replaces
            another, give both as a list: one of them has to fit.
        allow_unsigned: Channels that are accepted without a signature if no secret is given:
            ``"whatsapp"``, ``"butt-dial"``, ``"account"``. Anybody can then write to them.
        max_body_bytes: Larger bodies are answered with 413.
        delivery_log: Remembers what was handed over; in this process's memory when None.
        inbox: Where webhooks write, with ``deferred``.
        deferred: Answer a webhook as soon as its events are written to the inbox, for handlers that
            are slow; a :class:`~buttdial_sync.Listener` with that inbox, in any process, hands them
            over, without the ``context`` of :meth:`handle`. Account events are handed over at once:
            they hold a token.
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
        whatsapp_webhook_secret: Secrets | None = None,
        account_webhook_secret: AccountSecret | None = None,
        allow_unsigned: Collection[str] = (),
        max_body_bytes: int = _MIB,
        delivery_log: DeliveryLog | None = None,
        inbox: Inbox | None = None,
        deferred: bool = False,
        lease: float = 300.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        # Under the names of the arguments, so that this frame shows none of them.
        whatsapp_verify_token = masked(whatsapp_verify_token)
        whatsapp_webhook_secret = masked(whatsapp_webhook_secret)
        account_webhook_secret = masked(account_webhook_secret)
        self._verify_token = check_secret(whatsapp_verify_token, "whatsapp_verify_token")
        self._authenticator = WebhookAuthenticator(
            whatsapp_secrets=check_secrets(whatsapp_webhook_secret, "whatsapp_webhook_secret"),
            account_secrets=check_account_secrets(account_webhook_secret),
            allow_unsigned=check_unsigned(allow_unsigned),
            now=now,
        )
        self.max_body_bytes = check_count(max_body_bytes, "max_body_bytes")
        if deferred is not (inbox is not None):
            raise ConfigError(
                "inbox and deferred belong together",
                remediation="Give both, or neither. A Listener has an inbox of its own.",
            )
        self._inbox = inbox
        log = MemoryDeliveryLog() if delivery_log is None else delivery_log
        self.lease = check_seconds(lease, "lease")
        self._dispatcher = Dispatcher(log, self.lease)
        self._strange: set[str] = set()

    @overload
    def on_message(self, channel: M, /) -> M: ...
    @overload
    def on_message(
        self, channel: str | None = None, *, verified_only: bool = False
    ) -> Callable[[M], M]: ...
    def on_message(self, channel: Any = None, *, verified_only: bool = False) -> Any:
        """
        Add a handler of messages: ``@on_message``, ``@on_message()``, ``@on_message("sms")``.

        Args:
            channel: Only messages of this channel; of all when None.
            verified_only: Only messages whose origin is proven. Also in the other methods.
        """
        if callable(channel):
            return self._dispatcher.register(channel, InboundMessage, verified_only=verified_only)
        if channel is not None and not isinstance(channel, str):
            raise ArgumentTypeError("channel must be text")
        return self._dispatcher.register(None, InboundMessage, channel, verified_only=verified_only)

    @overload
    def on_delivery_receipt(self, handler: R, /) -> R: ...
    @overload
    def on_delivery_receipt(self, *, verified_only: bool = False) -> Callable[[R], R]: ...
    def on_delivery_receipt(self, handler: Any = None, *, verified_only: bool = False) -> Any:
        """Add a handler of receipts for messages of ours."""
        return self._dispatcher.register(handler, DeliveryReceipt, verified_only=verified_only)

    @overload
    def on_status_update(self, handler: S, /) -> S: ...
    @overload
    def on_status_update(self, *, verified_only: bool = False) -> Callable[[S], S]: ...
    def on_status_update(self, handler: Any = None, *, verified_only: bool = False) -> Any:
        """Add a handler of news about channels, and of messages of ours that failed."""
        return self._dispatcher.register(handler, StatusUpdate, verified_only=verified_only)

    @overload
    def on_account_verified(self, handler: A, /) -> A: ...
    @overload
    def on_account_verified(self, *, verified_only: bool = False) -> Callable[[A], A]: ...
    def on_account_verified(self, handler: Any = None, *, verified_only: bool = False) -> Any:
        """Add a handler of verified accounts. It gets a credential: keep it, do not log it."""
        return self._dispatcher.register(handler, AccountVerified, verified_only=verified_only)

    @overload
    def on_unreadable(self, handler: U, /) -> U: ...
    @overload
    def on_unreadable(self, *, verified_only: bool = False) -> Callable[[U], U]: ...
    def on_unreadable(self, handler: Any = None, *, verified_only: bool = False) -> Any:
        """
        Add a handler of messages and account events that lack a part, to keep them.

        Without one a webhook is answered with 422, and a listener gives them to its
        ``on_undelivered``.
        """
        return self._dispatcher.register(handler, UnreadableEvent, verified_only=verified_only)

    def remove(self, handler: Callable[..., object]) -> None:
        """Remove a handler, from all kinds of events. Safe to call twice."""
        self._dispatcher.unregister(handler)

    def parse(self, payload: Any) -> list[InboundEvent]:
        """
        Read a decoded payload of any kind. The sender is not checked.

        Args:
            payload: WhatsApp's, Butt-Dial's own, or an account event.

        Returns:
            Its events in their order; none when it is unknown or an echo. ``source`` is None, and
            ``verified`` is false.
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
        return InboundReport(**Counter[str](map(self._dispatcher.dispatch, self.parse(payload))))

    def dispatch_event(
        self, event: InboundEvent, delivery_keys: Sequence[str] = ()
    ) -> InboundReport:
        """
        Hand an event over, as :meth:`dispatch` does with those of a payload.

        Args:
            event: The event.
            delivery_keys: By what it is known again if it has no id of its own.

        Returns:
            The result.
        """
        return InboundReport(**Counter[str]([self._dispatcher.dispatch(event, delivery_keys)]))

    def dispatch_waiting(self, messages: Sequence[WaitingMessage]) -> InboundReport:
        """
        Hand over messages of the waiting queue; fits ``before_open`` of a client as it is.

        ::

            Client(url, agent_token=token, before_open=inbound.dispatch_waiting)

        They are known again by the provider's id, so that one that came by webhook before is not
        handed over twice. They have left the server: with ``deferred`` they are written to the
        inbox, in one transaction. Without it, keep what ``failed`` and ``busy`` count, or give the
        handler an inbox.

        Args:
            messages: As ``client.inbox.waiting()`` or ``before_open`` has them.

        Returns:
            The results of the events; empty with ``deferred``, because nothing is handed over yet.

        Raises:
            Exception: With ``deferred``, the inbox's. Nothing was written.
        """
        events = [event for each in messages for event in parse_waiting(each)]
        if self._inbox is not None:
            self._inbox.write(events)
            return InboundReport()
        return InboundReport(**Counter[str](map(self._dispatcher.dispatch, events)))

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

    def handle(
        self, channel: str, body: bytes, headers: Headers, *, context: object = None
    ) -> InboundResponse:
        """
        Answer a webhook, whatever a stranger sends.

        Exceptions of a handler, of the delivery log or of the function for the secret are logged
        and answered with 500. Those that end the process are raised: ``KeyboardInterrupt``, and in
        the main thread ``SystemExit``.

        Args:
            channel: The channel of the address: ``"whatsapp"``, ``"butt-dial"`` (Butt-Dial's own
                messages) or ``"account"`` (``account.verified``).
            body: The body's bytes as they came.
            headers: The headers, in any letters' case.
            context: What handlers of two arguments get as their second, such as your tenant.

        Returns:
            200 handled, repeated, stored in the inbox, or not for us; 400 not JSON; 401 a bad or
            missing signature, or a channel that is not open; 413 too large; 422 a message lacks a
            part, and there is no handler for those; 500 a handler failed, or another process is
            busy with it: send it again.
        """
        try:
            if type(body) is bytes and len(body) <= self.max_body_bytes:
                body = SecretBytes(body)  # it may hold a credential, and frames are shown
            return self._handle(channel, body, headers, context)
        except Exception:  # any other end, and the sender would not know to send it again
            logger.exception("a webhook could not be handled")
            return _answer(500, "it could not be handled; try again")

    def wsgi(self) -> WsgiApplication:
        """
        Return a WSGI application for the webhooks, to be mounted at an address of your choice.

        ``POST <channel>/`` is a delivery, as in :meth:`handle`; ``GET <channel>/`` is WhatsApp's
        subscription. Handlers of two arguments get WSGI's environ as their second. Safe to share
        between threads and forks.
        """
        return wsgi_application(self._respond, self.max_body_bytes)

    def asgi(self) -> AsgiApplication:
        """
        Return an ASGI application, as :meth:`wsgi` does, for servers on asyncio.

        The handlers run in threads, so they may block, and do not block the event loop. Those of
        two arguments get ASGI's scope.
        """
        return asgi_application(self._respond, self.max_body_bytes)

    def _respond(self, request: Request) -> Response:
        if request.method == "POST":
            given = request.path, request.body, request.headers
            answer = self.handle(*given, context=request.surroundings)
        elif request.method in {"GET", "HEAD"}:
            answer = self.verify_subscription(request.query)
        else:
            answer = _answer(405, "only GET and POST are answered")
        headers = {"Content-Type": answer.content_type}
        if answer.status == 405:
            headers["Allow"] = "GET, HEAD, POST"
        return Response(status=answer.status, body=answer.body, headers=headers)

    def _handle(
        self, channel: str, body: bytes, headers: Headers, context: object
    ) -> InboundResponse:
        # JSON is decoded after the signature was checked, except to find a workspace's secret.
        if len(body) > self.max_body_bytes:
            return _answer(413, "the body is too large")
        headers = by_lower_name(headers)
        try:
            authenticity = self._authenticator.authenticate(channel, body, headers)
            if authenticity == "refused":
                logger.warning("a webhook for %.40r was refused: no valid signature", channel)
                return _answer(401, "the signature is missing or wrong")
            payload = decode_json(body)
        except UnreadableError:
            return _answer(400, "the body is not JSON")
        origin = Origin(source=_SOURCES[channel], verified=authenticity == "signed")
        events = _events(channel, payload, headers, origin)
        if not events:
            self._warn_of_nothing(channel, payload)
        delivery = _delivery_keys(headers, is_signed=origin["verified"])
        if self._inbox is not None and channel != _WITH_TOKENS:
            stored = self._inbox.write(events, delivery)
            return InboundResponse(200, json.dumps({"status": "stored", "stored": stored}))
        counts: Counter[str] = Counter()
        for number, event in enumerate(events):
            keys = [f"{key}:{number}" for key in delivery]
            counts[self._dispatcher.dispatch(event, keys, context)] += 1
        return _answer_of(InboundReport(**counts), channel)

    def _warn_of_nothing(self, channel: str, payload: Any) -> None:
        """Say that a delivery brought no event, unless it is one of which we know that."""
        if isinstance(payload, dict) and is_ours(payload):
            return
        what = f"{channel}: {names_in(payload)}"
        # Strangers may invent names: a few kinds are told, and each of them once.
        if what not in self._strange and len(self._strange) < _KINDS_TOLD:
            self._strange.add(what)
            logger.warning("a delivery that holds no known event was ignored, on %s", what)

    if not TYPE_CHECKING:  # type checkers would take every name as Any

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("InboundHandler", name, obj=self)

    def __repr__(self) -> str:
        return f"InboundHandler(allow_unsigned={sorted(self._authenticator.allow_unsigned)!r})"


def _events(channel: str, payload: Any, headers: Headers, origin: Origin) -> list[InboundEvent]:
    """Read a payload in the format of its channel only."""
    if not isinstance(payload, dict):
        return []
    if channel == "whatsapp":
        return list(parse_whatsapp(payload, origin))
    if channel == "account":
        return parse_account(payload, headers.get(_DELIVERY_ID), origin)
    return parse_native(payload, origin)


def _delivery_keys(headers: Headers, *, is_signed: bool) -> list[str]:
    """Return what a delivery is known by: the id that its sender gives it, and its signature."""
    delivery_id, signature = headers.get(_DELIVERY_ID), headers.get(SIGNATURE)
    keys = [f"delivery:{delivery_id}"] if delivery_id else []
    # The id is not signed: whoever repeats a delivery could write another one.
    return [*keys, f"signature:{signature}"] if is_signed and signature else keys


def _answer_of(report: InboundReport, channel: str) -> InboundResponse:
    if report.failed or report.busy:
        return _answer(500, "a handler failed; try again")
    if report.unreadable:
        # Not 2xx: a server that has a queue keeps it there, and others try again.
        logger.error(
            "%d messages on %s lack a part and were refused: add a handler with on_unreadable",
            report.unreadable,
            channel,
        )
        return _answer(422, "a message lacks its sender, its content or its id")
    status = "handled" if report.handled else "repeated" if report.repeated else "ignored"
    counts = {"handled": report.handled, "repeated": report.repeated, "failed": 0, "unreadable": 0}
    return InboundResponse(200, json.dumps({"status": status, **counts}))


def _answer(status: int, error: str) -> InboundResponse:
    return InboundResponse(status, json.dumps({"error": error}))
