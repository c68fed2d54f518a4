"""From an event to the handlers of the host, each of them once."""

from __future__ import annotations

import hashlib
import inspect
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, count
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import attrs

from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.inbound.deliveries import (
    UNSIGNED,
    DeliveryInProgressError,
    DeliveryLog,
    check_log,
    check_token,
)
from buttdial_sync.inbound.reading import identifier
from buttdial_sync.models.inbound import (
    AccountVerified,
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    StatusUpdate,
    UnreadableEvent,
)

logger = logging.getLogger("buttdial_sync.inbound")

HandlingOutcome: TypeAlias = Literal["handled", "repeated", "busy", "failed", "unreadable"]

_WORST_FIRST: tuple[HandlingOutcome, ...] = ("failed", "busy", "handled", "repeated")
_LONGEST_KEY = 200

_Claim: TypeAlias = tuple[str, str]
"""The key of a delivery that was claimed, and the token of the claim."""


@attrs.frozen(kw_only=True)
class InboundReport:
    """
    The results of a payload's events.

    Attributes:
        handled: Handed to all their handlers, or without a handler.
        repeated: Handed over before.
        busy: No handler failed, but another thread or process is still busy with it: it may still
            fail, so hand the event over again later.
        failed: A handler failed, or the delivery log did.
        unreadable: They cannot be read, and no handler is there for those: somebody has to keep
            them.
    """

    handled: int = 0
    repeated: int = 0
    busy: int = 0
    failed: int = 0
    unreadable: int = 0


@attrs.frozen(kw_only=True)
class HandlerRegistration:
    """A handler of the host, and the events that it gets."""

    handler: Callable[..., Any]
    name: str
    kind: type[object]
    channel: str | None
    verified_only: bool
    takes_context: bool

    def wants(self, event: InboundEvent) -> bool:
        """Whether the handler gets this event."""
        return (
            isinstance(event, self.kind)
            and (self.channel is None or _channel_of(event) == self.channel)
            and (event.verified or not self.verified_only)
        )


class Dispatcher:
    """
    Hands events to handlers. Safe to share between threads.

    A handler that raises is logged, and the next one runs. What was handed over is noted for each
    handler by itself: when a delivery comes again because one failed, the others are not called
    again.

    Args:
        log: Remembers what was handed over.
        lease: How long a handler may take, in seconds.

    Raises:
        ConfigError: The log's methods do not take what :class:`DeliveryLog` says.
    """

    def __init__(self, log: DeliveryLog, lease: float) -> None:
        self._log = check_log(log)
        self._lease = lease
        self._registrations: tuple[HandlerRegistration, ...] = ()

    def register(
        self,
        handler: Any,
        kind: type[object],
        channel: str | None = None,
        *,
        verified_only: bool,
    ) -> Any:
        """
        Add a handler and return it; without one, return a decorator.

        Raises:
            ArgumentTypeError: It is not a plain function.
        """
        if handler is None:
            return partial(self.register, kind=kind, channel=channel, verified_only=verified_only)
        _check_plain(handler)
        added = HandlerRegistration(
            handler=handler,
            name=self._free_name(_name_of(handler)),
            kind=kind,
            channel=channel,
            verified_only=verified_only,
            takes_context=_takes_context(handler),
        )
        # A new tuple, so that a dispatch that is going on in another thread keeps its own.
        self._registrations = (*self._registrations, added)
        return handler

    def _free_name(self, name: str) -> str:
        # A handler that is removed and added again has its old name, and is known by that.
        taken = {each.name for each in self._registrations}
        others = (f"{name}-{number}" for number in count(2))
        return next(each for each in chain([name], others) if each not in taken)

    def unregister(self, handler: Callable[..., Any]) -> None:
        """Remove a handler, also one that was added several times or not at all."""
        self._registrations = tuple(each for each in self._registrations if each.handler != handler)

    def dispatch(
        self, event: InboundEvent, delivery_keys: Sequence[str] = (), context: object = None
    ) -> HandlingOutcome:
        """
        Call the handlers that have not had the event yet.

        Args:
            event: The event.
            delivery_keys: The delivery that brought it. They stand for the event in the delivery
                log if it has no id of its own.
            context: The second argument of handlers that take two.

        Returns:
            ``"failed"`` if a handler or the log failed; else ``"busy"`` if another thread or
            process still runs one of the handlers; ``"repeated"`` if all had it before;
            ``"unreadable"`` if it is an :class:`UnreadableEvent` that no handler wants.

        Raises:
            ConfigError: The log's ``claim`` returned neither a token nor None.
        """
        keys = keys_of(event, delivery_keys)
        outcomes = {
            self._dispatch_to(each, event, keys, context)
            for each in self._registrations
            if each.wants(event)
        }
        if not outcomes:
            if isinstance(event, UnreadableEvent):
                return "unreadable"
            logger.info("no handler for a %s on %.40r", type(event).__name__, _channel_of(event))
            return "handled"
        return min(outcomes, key=_WORST_FIRST.index)

    def _dispatch_to(
        self, to: HandlerRegistration, event: InboundEvent, keys: Sequence[str], context: object
    ) -> HandlingOutcome:
        # A claim for each handler: when one fails and the event comes again, the others are not
        # called again. The name is part of the key, so it must be the same in all processes.
        try:
            claims = self._claim(to, [_bounded(f"{key}#{to.name}") for key in keys])
        except DeliveryInProgressError:
            # Not by its key, which may hold a recipient.
            logger.info("%s is still busy with a %s", to.name, type(event).__name__)
            return "busy"
        except ConfigError:
            raise
        except Exception:  # the host's log may raise anything
            # Without a claim nobody is called: the sender tries again, and nothing happens twice.
            logger.exception("the delivery log failed; %s was not called", to.name)
            return "failed"
        return "repeated" if claims is None else self._run(to, event, claims, context)

    def _claim(self, to: HandlerRegistration, units: Sequence[str]) -> list[_Claim] | None:
        """Claim all of them, or none: None if one was handed over before."""
        claims: list[_Claim] = []
        is_all = False
        try:
            for unit in units:
                token = check_token(self._log.claim(unit, self._lease))
                if token is None:
                    return None
                claims.append((unit, token))
            is_all = True
        finally:
            if not is_all:
                self._note(to, self._log.release, claims)
        return claims

    def _run(
        self, to: HandlerRegistration, event: InboundEvent, claims: list[_Claim], context: object
    ) -> HandlingOutcome:
        try:
            result = to.handler(event, context) if to.takes_context else to.handler(event)
            _check_done(result)
        except Exception:  # a handler of the host; the other handlers still run
            logger.exception("handler %s failed", to.name)
        except BaseException as error:
            # The process ends: the next worker need not wait for the lease.
            self._note(to, self._log.release, claims)
            logger.exception("handler %s raised %s", to.name, type(error).__name__)
            if ends_process(error):
                raise
            return "failed"
        else:
            self._note(to, self._log.done, claims)
            return "handled"
        self._note(to, self._log.release, claims)
        return "failed"

    def _note(
        self,
        to: HandlerRegistration,
        note: Callable[[str, str], None],
        claims: Sequence[_Claim],
    ) -> None:
        for claim in claims:
            try:
                note(*claim)
            except Exception:  # noqa: PERF203 - the host's log; the handler has run all the same
                logger.exception(
                    "the delivery log failed; %s keeps its claim until the lease ends", to.name
                )


def ends_process(error: BaseException) -> bool:
    """Return whether an error of the host's code has to be raised on, for the process ends."""
    if isinstance(error, SystemExit):
        # In a thread it would end only the thread, and nobody would see it.
        return threading.current_thread() is threading.main_thread()
    return not isinstance(error, Exception)


def keys_of(event: InboundEvent, delivery_keys: Sequence[str]) -> tuple[str, ...]:
    """
    Return the keys of an event in the delivery log; none if nothing identifies it.

    What is unsigned has keys of its own, so that a stranger's delivery does not count as one that
    is signed. An event from the client's own connection may have come by webhook before, in one or
    the other way, so it has both; but not if only the waiting queue knows it by its id, because
    strangers can write that id.
    """
    keys = _plain_keys(event, delivery_keys)
    unsigned = tuple(UNSIGNED + key for key in keys)
    if not event.verified:
        return unsigned
    return (*keys, *unsigned) if _may_have_come_by_webhook(event) else keys


def identity_of(event: InboundEvent, delivery_keys: Sequence[str] = ()) -> str | None:
    """
    Return by what an event is known again, however it comes; None if nothing identifies it.

    What is unsigned has another identity than what is signed, as in :func:`keys_of`.
    """
    keys = _plain_keys(event, delivery_keys)
    return _bounded(("" if event.verified else UNSIGNED) + keys[0]) if keys else None


def order_of(event: InboundEvent) -> str:
    """Return what events have in common that are handled in their order, such as the sender."""
    if isinstance(event, InboundMessage):
        return _bounded(f"sender:{event.channel}:{event.agent_id or ''}:{event.sender}")
    if isinstance(event, DeliveryReceipt):
        return _bounded(f"receipt:{event.channel}:{event.message_sid}")
    return _bounded(f"{type(event).__name__}:{identity_of(event) or uuid4()}")


def _plain_keys(event: InboundEvent, delivery_keys: Sequence[str]) -> tuple[str, ...]:
    if isinstance(event, DeliveryReceipt):
        # With the status: a message that was sent is delivered and read later. With the recipient,
        # where it is named: each of a group has receipts of its own.
        whose = f":{event.recipient}" if event.recipient else ""
        return (f"receipt:{event.channel}:{event.message_sid}:{event.status}{whose}",)
    if isinstance(event, AccountVerified):
        own = event.delivery_id and f"delivery:{event.delivery_id}"
        return tuple(delivery_keys) or ((own,) if own else ())
    if not event.id:
        return tuple(delivery_keys)
    if isinstance(event, StatusUpdate):
        return (f"status:{event.channel}:{event.id}:{event.kind}",)
    if not isinstance(event, InboundMessage):
        return (f"unreadable:{event.channel}:{event.agent_id or ''}:{event.id}",)
    # With the agent: one e-mail to two agents has one id. Where none is named, our address tells.
    address = event.to if event.channel == "email" else None
    return (f"message:{event.channel}:{event.agent_id or address or ''}:{event.id}",)


def _may_have_come_by_webhook(event: InboundEvent) -> bool:
    if event.source != "queue":
        return event.source == "push"
    # Webhooks have the provider's id. What has none in the queue has that of the queue.
    raw = event.raw if isinstance(event.raw, Mapping) else {}
    return bool(getattr(event, "external_id", None) or identifier(raw, "externalId"))


def _channel_of(event: InboundEvent) -> str | None:
    return getattr(event, "channel", None)


def _bounded(key: str) -> str:
    """Return a key that every database can store, also if a stranger sent a strange id."""
    if len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    kind = UNSIGNED if key.startswith(UNSIGNED) else ""
    return f"{kind}sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _check_plain(handler: object) -> None:
    if not callable(handler) or inspect.iscoroutinefunction(handler):
        raise ArgumentTypeError("a handler is a plain function, not a coroutine")


def _check_done(result: object) -> None:
    """
    Refuse what a handler returned if its work is not done yet.

    Raises:
        ArgumentTypeError: It is a coroutine, or something else that has to be awaited.
    """
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
        raise ArgumentTypeError("the handler returned a coroutine, which nobody awaits")


def _takes_context(handler: Callable[..., Any]) -> bool:
    """Whether a handler needs two arguments: the event and the context."""
    try:
        inspect.signature(handler).bind(None)
    except ValueError:  # one of C that does not tell its arguments
        return False
    except TypeError:
        return True
    return False


def _name_of(handler: Callable[..., Any]) -> str:
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{named.__qualname__}"
