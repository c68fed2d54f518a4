"""The calls under way on one connection, and which frame belongs to which."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    DeadlineExceededError,
    StreamLostError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.pending import Failure

logger = logging.getLogger("buttdial_sync.procedura")

Mode = Literal["sync", "async"]
Frame = dict[str, Any]

LAST = ("finished", "error")  # not a set: a server may send any JSON as a status
_PARKED_AT_MOST = 256
_QUEUED_AT_MOST = 10_000
_ENDED_KEPT = 4096
_IDS = 1 << 32  # eight hexadecimal digits


class ModuleCall:
    """
    A call that waits for its frames. One thread waits, the reading thread puts.

    Attributes:
        id: The request's id.
        mode: As on the wire.
        is_sent: Whether the server may have the request.
        is_bound: Whether a frame has come that names it. Until then nobody knows its job.
        names: Those by which frames name it: the request's, and the job's once it is known.
        is_over: Whether its last frame has come.
        is_done: Whether the last frame was handed out.
    """

    def __init__(self, request_id: str, mode: Mode) -> None:
        self.id = request_id
        self.mode = mode
        self.is_sent = False
        self.is_bound = False
        self.names = [request_id]
        self.is_over = False
        self.is_done = False
        self._make_empty()

    def _make_empty(self) -> None:
        self._frames: deque[Frame | Failure] = deque()
        # Held while nothing is there. A queue.Queue costs three times as much.
        self._until_there = threading.Lock()
        self._until_there.acquire()

    def put(self, frame: Frame) -> None:
        """Hand over a frame. Only one thread at a time may put."""
        self.is_over = self.is_over or frame.get("status") in LAST
        if len(self._frames) >= _QUEUED_AT_MOST:
            self.fail(_too_slow)
        elif self.mode == "async" or frame.get("status") in LAST:
            self._add(frame)  # a caller that waits for a result is not woken for less

    def fail(self, failure: Failure) -> None:
        """Hand over why there will be no more frames."""
        self.is_over = True
        self._add(failure)

    def next(self, deadline: Deadline) -> Frame | None:
        """
        Wait for the next frame; for a result, for the last one.

        Returns:
            The frame, or None when the deadline has passed.

        Raises:
            ButtDialError: There will be none.
        """
        while not self._frames:
            if not self._until_there.acquire(timeout=deadline.remaining()) and not self._frames:
                return None
        found = self._frames.popleft()
        if isinstance(found, dict):
            self.is_done = found.get("status") in LAST
            return found
        raise self._error(found)

    def reset(self, failure: Failure) -> None:
        """In a forked child: fail, with a lock that nobody holds."""
        leak_until_exit(self._until_there)
        self._make_empty()
        self.fail(failure)

    def _add(self, item: Frame | Failure) -> None:
        self._frames.append(item)
        if self._until_there.locked():
            self._until_there.release()

    def _error(self, failure: Failure) -> ButtDialError:
        error = failure("unknown")
        if isinstance(error, AuthError) and not self.is_bound:
            error.outcome = "rejected"  # it closed the connection instead of an acknowledgement
        return error


class CallTable:
    """
    Finds the call of each frame. Safe to share between threads.

    Frames name the request's ``id`` or the server's ``job_id``. A ``started`` frame that names
    only the job belongs to the one stream that waits for it; so as long as the server has not
    shown that it names the request, streams start one after the other. Frames of a job that is not
    known yet are parked until it is.
    """

    def __init__(self) -> None:
        self._failure: Failure | None = None
        # From anywhere: a late frame of the connection before must not fit.
        self._numbers = count(secrets.randbelow(_IDS))
        self._calls: dict[str, ModuleCall] = {}  # by request id and by job id
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._parked: dict[str, list[Frame]] = {}
        self._parked_count = 0
        self._starts_name_requests = False
        self._make_locks()
        reset_after_fork(self)

    def _make_locks(self) -> None:
        self._changed = threading.Condition()

    def _reset_after_fork(self) -> None:
        """In a forked child: the calls are the parent's. Whoever waits here is told."""
        leak_until_exit(self._changed)
        self._make_locks()
        self._failure = _forked
        for call in set(self._calls.values()):
            call.reset(_forked)

    def new_call(self, mode: Mode) -> ModuleCall:
        """Make a call that is not registered yet."""
        return ModuleCall(f"{next(self._numbers) % _IDS:08x}", mode)

    def begin(self, call: ModuleCall, deadline: Deadline) -> None:
        """
        Register a call, before its request is sent.

        Raises:
            DeadlineExceededError: Other streams did not start in time. Nothing was sent.
            ButtDialError: The connection is over. Nothing was sent.
        """
        with self._changed:
            while True:
                if self._failure is not None:
                    raise self._failure("not_sent")
                if call.mode == "sync" or self._starts_name_requests or not self._starting():
                    break
                if not self._changed.wait(deadline.remaining()):
                    raise DeadlineExceededError(
                        f"other streams did not start within {deadline.seconds:g} s"
                    )
            self._calls[call.id] = call

    def discard(self, call: ModuleCall) -> bool:
        """
        Forget a call, also one that was not registered.

        Returns:
            Whether the connection can be used on. If a stream is given up before it started, and
            the server does not name requests, its late ``started`` would be taken for another's.
        """
        with self._changed:
            is_starting = call.mode == "async" and call.is_sent and not call.is_bound
            self._forget(call)
            self._bind_what_is_clear_now()
            self._changed.notify_all()
            return self._starts_name_requests or not is_starting

    def take(self, frame: Frame) -> None:
        """Hand a frame to its call. In the reading thread."""
        names = _names(frame)
        with self._changed:
            call = self._call_of(frame, names)
            if call is not None:
                self._deliver(call, frame, names)
            elif not any(name in self._ended for name in names):
                self._park(frame, names)

    def end(self, failure: Failure) -> None:
        """Fail all calls, now and later. The first reason stays."""
        with self._changed:
            if self._failure is None:
                self._failure = failure
                for call in set(self._calls.values()):
                    if not call.is_over:
                        call.fail(failure)
                self._changed.notify_all()

    @property
    def count(self) -> int:
        """How many calls are under way."""
        return len(set(self._calls.values()))

    # All below with the lock.

    def _starting(self) -> list[ModuleCall]:
        calls = set(self._calls.values())
        return [each for each in calls if each.mode == "async" and not each.is_bound]

    def _call_of(self, frame: Frame, names: Sequence[str]) -> ModuleCall | None:
        call = next((self._calls[name] for name in names if name in self._calls), None)
        if frame.get("status") == "started":
            if call is not None and names[0] == call.id:
                self._starts_name_requests = True
                self._changed.notify_all()
            elif call is None and not any(name in self._ended for name in names):
                self._starts_name_requests = False
                return self._only_starting()
        return call

    def _only_starting(self) -> ModuleCall | None:
        starting = self._starting()
        return starting[0] if len(starting) == 1 else None

    def _deliver(self, call: ModuleCall, frame: Frame, names: Sequence[str]) -> None:
        call.put(frame)
        if not call.is_bound:
            call.is_bound = True
            self._changed.notify_all()
        for name in names:
            if name not in self._calls:
                self._calls[name] = call
                call.names.append(name)
            if self._parked:
                self._deliver_parked(call, name)
        if self._parked:
            self._bind_what_is_clear_now()

    def _deliver_parked(self, call: ModuleCall, name: str) -> None:
        parked = self._parked.pop(name, [])
        self._parked_count -= len(parked)
        for frame in parked:
            self._deliver(call, frame, _names(frame))

    def _park(self, frame: Frame, names: Sequence[str]) -> None:
        if not names:
            logger.debug("ignored a frame that names neither request nor job")
            return
        if self._parked_count >= _PARKED_AT_MOST:
            self._make_room()
        self._parked.setdefault(names[0], []).append(frame)
        self._parked_count += 1

    def _make_room(self) -> None:
        unbound = [call for call in set(self._calls.values()) if not call.is_bound]
        if not unbound:  # the frames are nobody's here
            oldest = next(iter(self._parked))
            logger.warning("dropped the frames of a job that no call is known to have")
            self._parked_count -= len(self._parked.pop(oldest))
            return
        logger.warning(
            "%d frames came for jobs that no call is known to have: %d calls end as unknown",
            self._parked_count,
            len(unbound),
        )
        self._parked.clear()
        self._parked_count = 0
        for call in unbound:
            if not call.is_over:
                call.fail(_lost_track)
            self._forget(call)
        self._changed.notify_all()

    def _bind_what_is_clear_now(self) -> None:
        """Give a parked ``started`` to the one stream that is left waiting for one."""
        call = self._only_starting()
        starts = [
            name for name, frames in self._parked.items() if frames[0].get("status") == "started"
        ]
        if call is not None and len(starts) == 1:
            self._deliver_parked(call, starts[0])

    def _forget(self, call: ModuleCall) -> None:
        for name in call.names:
            if self._calls.pop(name, None) is not None:
                self._ended[name] = None
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)


def _names(frame: Frame) -> list[str]:
    found = (frame.get("id"), frame.get("job_id"))
    return [str(each) for each in found if isinstance(each, str | int)]


def _lost_because(reason: str) -> Failure:
    return lambda outcome: StreamLostError(reason, outcome=outcome)


_too_slow = _lost_because(f"more than {_QUEUED_AT_MOST} events wait to be read; the rest is lost")
_lost_track = _lost_because(
    "the server names jobs that no call is known to have; one may be this call's"
)
_forked = _lost_because("the call belongs to the process that was forked")
