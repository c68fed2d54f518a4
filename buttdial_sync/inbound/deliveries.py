"""The memory of events that were handed over already."""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Protocol

import attrs

from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.transport.fork import reset_after_fork


class DeliveryInProgressError(Exception):
    """Another worker has claimed the delivery, and its lease has not ended."""


class DeliveryLog(Protocol):
    """
    Remembers what was handed over, so that nothing is handed over twice.

    A claim ends with its lease. If the process that holds it dies, a delivery after that time is
    accepted. So the lease must be longer than the slowest handler. A handler that takes longer may
    end after another worker took over: the token shows whose claim it is. Several threads, and if
    the log is shared several processes, may call at the same time: one of them gets the claim.
    Ids are at most 255 printable ASCII characters.
    """

    def claim(self, delivery_id: str, lease: float) -> str | None:
        """
        Claim a delivery for ``lease`` seconds.

        Returns:
            The token of the claim if the caller is to hand it over, a text that no other claim of
            the delivery ever had. None if it was handed over before.

        Raises:
            DeliveryInProgressError: Another claim has not ended. The sender is then asked to try
                again, because the other worker may still fail. A log that does not know returns
                None.
        """
        ...

    def done(self, delivery_id: str, token: str) -> None:
        """
        Note that it was handed over: claiming it returns None from now on.

        This is also true if the lease has ended and another worker has the claim now, or had it and
        gave it back. The handler has succeeded, and no later call changes that.

        Args:
            delivery_id: The delivery that was claimed.
            token: The token that :meth:`claim` returned.
        """
        ...

    def release(self, delivery_id: str, token: str) -> None:
        """
        Give a claim back: the delivery may be claimed again at once.

        Nothing happens if the claim has another token now, or the delivery is done or unknown.

        Args:
            delivery_id: The delivery that was claimed.
            token: The token that :meth:`claim` returned.
        """
        ...


_REMEDY = (
    "claim(delivery_id, lease) returns a token (text), or None when it was handed over before; "
    "done(delivery_id, token) and release(delivery_id, token) take it. See DeliveryLog."
)


def check_log(log: DeliveryLog) -> DeliveryLog:
    """
    Return a delivery log whose methods can be called as :class:`DeliveryLog` says.

    Raises:
        ConfigError: They cannot.
    """
    for name, arguments in (("claim", ("id", 1.0)), ("done", ("id", "")), ("release", ("id", ""))):
        method = getattr(log, name, None)
        if not callable(method):
            raise ConfigError(f"the delivery log has no method {name}", remediation=_REMEDY)
        try:
            inspect.signature(method).bind(*arguments)
        except TypeError:
            raise ConfigError(
                f"the delivery log's {name} does not take {len(arguments)} arguments",
                remediation=_REMEDY,
            ) from None
        except ValueError:
            continue  # a function of C that does not tell its arguments
    return log


def check_token(token: str | None) -> str | None:
    """
    Check the return value of a delivery log's ``claim``, and return it.

    Raises:
        ConfigError: It is neither text nor None.
    """
    if token is not None and not isinstance(token, str):
        raise ConfigError(
            f"the delivery log's claim returned a {type(token).__name__}", remediation=_REMEDY
        )
    return token


UNSIGNED = "unsigned:"
"""The keys of what anybody may have sent begin so."""


@attrs.frozen
class _Claim:
    token: str
    ends_at: float
    done: bool = False


class MemoryDeliveryLog:
    """
    A :class:`DeliveryLog` of one process. Safe to share between threads.

    A forked child has a copy: processes do not know each other's deliveries. If a webhook has
    several worker processes, use a log in a database.

    Args:
        max_deliveries: Remembers this many; the oldest is forgotten first. So many of unsigned
            webhooks besides: strangers cannot make it forget the others.
        clock: A monotonic clock in seconds, for tests.

    Raises:
        ArgumentValueError: ``max_deliveries`` is not positive.
    """

    def __init__(
        self, max_deliveries: int = 50_000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if max_deliveries < 1:
            raise ArgumentValueError("max_deliveries must be at least 1")
        self._max_deliveries = max_deliveries
        self._clock = clock
        self._claims: Mapping[bool, OrderedDict[str, _Claim]]
        self._claims = {is_unsigned: OrderedDict() for is_unsigned in (False, True)}
        self._numbers = count()
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock, and none of the claims that the parent has not ended."""
        self._lock = threading.Lock()
        # The parent's threads do not exist here, so nobody would end their claims.
        self._claims = {
            kind: OrderedDict((key, each) for key, each in claims.items() if each.done)
            for kind, claims in self._claims.items()
        }

    def _claims_like(self, delivery_id: str) -> OrderedDict[str, _Claim]:
        return self._claims[delivery_id.startswith(UNSIGNED)]

    def claim(self, delivery_id: str, lease: float) -> str | None:
        """Claim a delivery; see :meth:`DeliveryLog.claim`."""
        with self._lock:
            now, claims = self._clock(), self._claims_like(delivery_id)
            known = claims.get(delivery_id)
            if known is not None and known.done:
                return None
            if known is not None and now < known.ends_at:
                raise DeliveryInProgressError(delivery_id)
            token = str(next(self._numbers))
            claims[delivery_id] = _Claim(token, now + lease)
            claims.move_to_end(delivery_id)
            while len(claims) > self._max_deliveries:
                claims.popitem(last=False)
        return token

    def done(self, delivery_id: str, token: str) -> None:
        """Note that it was handed over; see :meth:`DeliveryLog.done`."""
        with self._lock:
            # Even if another worker has the claim now: this handler has succeeded.
            self._claims_like(delivery_id)[delivery_id] = _Claim(token, 0.0, done=True)

    def release(self, delivery_id: str, token: str) -> None:
        """Give a claim back; see :meth:`DeliveryLog.release`."""
        with self._lock:
            claims = self._claims_like(delivery_id)
            known = claims.get(delivery_id)
            # The fence: a handler that outlived its lease must not free another worker's claim.
            if known is not None and known.token == token and not known.done:
                del claims[delivery_id]
