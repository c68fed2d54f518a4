"""From an event to the handlers of the host, each of them once."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs

from buttdial_sync.errors import ArgumentTypeError
from buttdial_sync.inbound.deliveries import (
    DeliveryInProgressError,
    DeliveryLog,
    check_log,
    check_token,
)
from buttdial_sync.models.inbound import (
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    StatusUpdate,
)

logger = logging.getLogger("buttdial_sync.inbound")

HandlingOutcome: TypeAlias = Literal["handled", "repeated", "failed"]

_LONGEST_KEY = 200

_Claim: TypeAlias = tuple[str, str]
"""The key of a delivery that was claimed, and the token of the claim."""


@attrs.frozen(kw_only=True)
class HandlerRegistration:
    """A handler of the host, and the events that it gets."""

    handler: Callable[[Any], object]
    name: str
    kind: type[object]
    channel: str | None = None

    def wants(self, event: InboundEvent) -> bool:
        """Whether the handler gets this event."""
        return isinstance(event, self.kind) and (
            self.channel is None or _channel_of(event) == self.channel
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
        self._names: Counter[str] = Counter()

    def register(self, handler: Any, kind: type[object], channel: str | None = None) -> Any:
        """
        Add a handler and return it; without one, return a decorator.

        Raises:
            ArgumentTypeError: It is not a plain function.
        """
        if handler is None:
            return partial(self.register, kind=kind, channel=channel)
        _check_plain(handler)
        name = _name_of(handler)
        self._names[name] += 1
        if self._names[name] > 1:
            name = f"{name}-{self._names[name]}"
        added = HandlerRegistration(handler=handler, name=name, kind=kind, channel=channel)
        # A new tuple, so that a dispatch that is going on in another thread keeps its own.
        self._registrations = (*self._registrations, added)
        return handler

    def unregister(self, handler: Callable[..., Any]) -> None:
        """Remove a handler, also one that was added several times or not at all."""
        self._registrations = tuple(each for each in self._registrations if each.handler != handler)

    def dispatch(self, event: InboundEvent, fallback_key: str | None = None) -> HandlingOutcome:
        """
        Call the handlers that have not had the event yet.

        Args:
            event: The event.
            fallback_key: The key for the delivery log if the event has no id of its own.

        Returns:
            ``"failed"`` if a handler failed, or if another process is still busy with it;
            ``"repeated"`` if all had it before.

        Raises:
            ConfigError: The log's ``claim`` returned neither a token nor None.
        """
        key = key_of(event) or fallback_key
        outcomes = {
            self._dispatch_to(each, event, key) for each in self._registrations if each.wants(event)
        }
        if not outcomes:
            logger.info("no handler for a %s on %s", type(event).__name__, _channel_of(event))
        if "failed" in outcomes:
            return "failed"
        return "repeated" if outcomes == {"repeated"} else "handled"

    def _dispatch_to(
        self, to: HandlerRegistration, event: InboundEvent, key: str | None
    ) -> HandlingOutcome:
        if key is None:
            return self._run(to, event, None)
        # A claim for each handler: when one fails and the event comes again, the others are not
        # called again. The name is part of the key, so it must be the same in all processes.
        unit = _bounded(f"{key}#{to.name}")
        try:
            token = self._log.claim(unit, self._lease)
        except DeliveryInProgressError:
            logger.info("%s is still busy with %s", to.name, unit)
            return "failed"
        except Exception:
            # Without a claim nobody is called: the sender tries again, and nothing happens twice.
            logger.exception("the delivery log failed; %s was not called", to.name)
            return "failed"
        token = check_token(token)
        if token is None:
            return "repeated"
        return self._run(to, event, (unit, token))

    def _run(
        self, to: HandlerRegistration, event: InboundEvent, claim: _Claim | None
    ) -> HandlingOutcome:
        try:
            to.handler(event)
        except Exception:  # a handler of the host; the other handlers still run
            logger.exception("handler %s failed", to.name)
            self._note(self._log.release, claim)
            return "failed"
        except BaseException:  # the process ends: the next worker need not wait for the lease
            self._note(self._log.release, claim)
            raise
        self._note(self._log.done, claim)
        return "handled"

    def _note(self, note: Callable[[str, str], None], claim: _Claim | None) -> None:
        if claim is None:
            return
        try:
            note(*claim)
        except Exception:  # the host's log; the handler has run, and that must be reported
            logger.exception(
                "the delivery log failed; %s stays claimed until its lease ends", claim[0]
            )


def key_of(event: InboundEvent) -> str | None:
    """Return the key of an event in the delivery log; None if it has no id."""
    if isinstance(event, InboundMessage):
        return event.id and f"message:{event.channel}:{event.id}"
    if isinstance(event, DeliveryReceipt):
        # With the status: a message that was sent is delivered and read later.
        return f"receipt:{event.channel}:{event.message_sid}:{event.status}"
    if isinstance(event, StatusUpdate):
        return event.id and f"status:{event.channel}:{event.id}:{event.kind}"
    return event.delivery_id and f"delivery:{event.delivery_id}"


def _channel_of(event: InboundEvent) -> str | None:
    return getattr(event, "channel", None)


def _bounded(key: str) -> str:
    """Return a key that every database can store, also if a stranger sent a strange id."""
    if len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _check_plain(handler: object) -> None:
    if not callable(handler) or inspect.iscoroutinefunction(handler):
        raise ArgumentTypeError("a handler is a plain function, not a coroutine")


def _name_of(handler: Callable[..., Any]) -> str:
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{named.__qualname__}"
