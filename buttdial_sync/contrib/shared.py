"""The common code of the framework integrations."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from buttdial_sync.errors import ConfigError
from buttdial_sync.inbound.dispatch import InboundReport
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked

logger = logging.getLogger("buttdial_sync.inbound")

T = TypeVar("T")


class OnePerProcess(Generic[T]):
    """
    Makes an object on first use, and ends it with the process. Safe to share between threads.

    Args:
        make: Makes it.
        end: Ends it; must not wait.
        prepare: Called before it is made, perhaps by several threads at once: imports modules of
            the host, which another thread may be importing while it waits for this object.
        inherited: Whether a forked child uses its parent's object, which then has to work in both;
            else it makes its own.
    """

    def __init__(
        self,
        make: Callable[[], T],
        end: Callable[[T], None] = lambda _: None,
        *,
        prepare: Callable[[], None] = lambda: None,
        inherited: bool = True,
    ) -> None:
        self._make = make
        self._end = end
        self._prepare = prepare
        self._inherited = inherited
        # A list, because None is an object that may have been made. Forgetting puts another one in
        # its place: who has read this one still finds the object.
        self._made: list[T] = []
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock, which nobody holds."""
        # Reentrant: what makes it may import a module that asks for it, and has to hear an error.
        self._lock = threading.RLock()
        if not self._inherited:
            leak_until_exit(*self._made)
            self._made = []

    def get(self) -> T:
        """Return it."""
        reset_if_forked()
        made = self._made
        if not made:
            self._prepare()
            with self._lock:
                made = self._made
                # Another thread may have made it while this one waited for the lock.
                if not made:
                    made.append(self._make())
                    atexit.register(self.forget)
        return made[0]

    def forget(self) -> None:
        """End it; the next use makes another. Calling it twice is safe."""
        reset_if_forked()
        with self._lock:
            made, self._made = self._made, []
            atexit.unregister(self.forget)
        for each in made:
            self._end(each)


class HandlerWithin(InboundHandler):
    """
    An inbound handler for a listener: its handlers run inside a context.

    Args:
        inbound: The handler; both have the same handlers and delivery log.
        context: Makes the context, a new one for each event.
    """

    def __init__(
        self, inbound: InboundHandler, context: Callable[[], AbstractContextManager[object]]
    ) -> None:
        # The same handlers, log and locks; a listener has no way to run its handlers in a context.
        vars(self).update(vars(inbound))
        self._inbound = inbound
        self._context = context

    def dispatch_event(
        self, event: InboundEvent, delivery_keys: Sequence[str] = ()
    ) -> InboundReport:
        """
        Hand an event over; see :meth:`InboundHandler.dispatch_event`.

        What the context raises is logged: an event whose context cannot be entered has failed, and
        one that was handled is handled, whatever the context does at its end.
        """
        report = InboundReport(failed=1)
        try:
            with self._context():
                report = self._inbound.dispatch_event(event, delivery_keys)
        except ConfigError:
            raise
        except Exception:  # the host's context may raise anything; the listener goes on
            logger.exception("the context of the handlers failed")
        return report
