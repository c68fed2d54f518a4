"""The table of callers that wait for an answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from buttdial_sync.errors import ButtDialError, Outcome

Answer = dict[str, Any]
Failure = Callable[[Outcome], ButtDialError]

_EARLY_ANSWERS_KEPT = 256


def copies_of(reason: ButtDialError) -> Failure:
    """Return what makes a new error for each waiter: threads must not raise the same object."""
    # Of a copy, because what is raised gets a traceback, whose frames hold the client.
    kept = reason.as_kind(type(reason))
    return lambda outcome: kept.as_kind(type(kept), outcome=outcome)


class Waiter:
    """A caller that waits for the answer with its id."""

    __slots__ = ("_answer", "_until_answered", "id")

    def __init__(self, request_id: int) -> None:
        self.id = request_id
        # Not a SimpleQueue: up to Python 3.12 its get() can hang where little or no time is left.
        # And not an Event, which costs three times as much: this is held until the answer is there.
        self._until_answered = threading.Lock()
        self._until_answered.acquire()
        self._answer: Answer | Failure | None = None

    def wake(self, answer: Answer | Failure) -> None:
        """Hand over the answer, or why there will be none. Only once."""
        self._answer = answer
        self._until_answered.release()

    def wait(self, seconds: float) -> Answer | None:
        """
        Wait for the answer.

        Returns:
            The answer, or None when the seconds have passed.

        Raises:
            ButtDialError: There will be no answer.
        """
        self._until_answered.acquire(timeout=seconds)
        answer = self._answer  # read once: it may come only now
        if callable(answer):
            raise answer("unknown")
        return answer


class PendingAnswers:
    """
    The table of waiters of one stream. Safe to share between threads.

    Ids start at 1 and count up. Answers to ids that were not given out yet are kept for a while:
    a mocked stream delivers all its answers at once and ends before the questions are asked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_id = 0
        self._waiters: dict[int, Waiter] = {}
        self._early: OrderedDict[int, Answer] = OrderedDict()
        self._failure: Failure | None = None

    def register(self) -> Waiter:
        """
        Make the next id's waiter, before the request is posted.

        Raises:
            ButtDialError: The stream has ended, and no early answer has this id.
        """
        with self._lock:
            if self._failure is not None and self._last_id + 1 not in self._early:
                raise self._failure("not_sent")
            self._last_id += 1
            waiter = Waiter(self._last_id)
            if self._failure is None:
                self._waiters[waiter.id] = waiter
            else:
                waiter.wake(self._early.pop(waiter.id))
            return waiter

    def discard(self, waiter: Waiter) -> None:
        """Forget a waiter that no longer waits."""
        with self._lock:
            self._waiters.pop(waiter.id, None)

    def resolve(self, request_id: object, answer: Answer) -> bool:
        """Hand an answer to its waiter; return whether anybody can want it."""
        if type(request_id) is not int:
            return False
        with self._lock:
            waiter = self._waiters.pop(request_id, None)
            if waiter is None and request_id > self._last_id:
                self._early[request_id] = answer
                while len(self._early) > _EARLY_ANSWERS_KEPT:
                    self._early.popitem(last=False)
                return True
        if waiter is not None:
            waiter.wake(answer)
        return waiter is not None

    def refuse(self, failure: Failure) -> None:
        """Fail who comes later; who waits still gets an answer. The first reason stays."""
        with self._lock:
            self._failure = self._failure or failure

    def end(self, failure: Failure) -> None:
        """Fail all waiters, now and later, whose answer is not there. The first reason stays."""
        with self._lock:
            self._failure = self._failure or failure
            waiters, self._waiters = self._waiters, {}
            for waiter in waiters.values():
                waiter.wake(self._early.pop(waiter.id, self._failure))

    @property
    def usable(self) -> bool:
        """Whether the next request can be answered."""
        return self._failure is None or self._last_id + 1 in self._early
