"""
The mutants that a reader of the tests made by hand, and that no test noticed then.

Of the 84 of that review these are the ones whose text is known: the survivors that break a promise.

A patch whose old text is gone is skipped, and that is said: give it the text of today.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Patch:
    """
    A change of one line.

    Attributes:
        name: As the review called it.
        path: The module.
        old: Text that occurs once in it.
        new: What it becomes.
        accepted: Why no test has to notice it; it is not run then.
    """

    name: str
    path: str
    old: str
    new: str
    accepted: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.path}: {self.old.strip()!r}  =>  {self.new.strip()!r}"


_SESSION = "buttdial_sync/transport/session.py"
_POOL = "buttdial_sync/transport/pool.py"
_RECORDER = "buttdial_sync/retry/recorder.py"
_WORKER = "buttdial_sync/retry/worker.py"
_HANDLER = "buttdial_sync/inbound/handler.py"
_SIGNATURES = "buttdial_sync/inbound/signatures.py"
_ANSWERS = "buttdial_sync/errors/answers.py"
_MOMENTS = "buttdial_sync/errors/moments.py"

PATCHES = (
    Patch("S1", _SESSION, "_GRACE_AFTER_BROKEN_POST = 2.0", "_GRACE_AFTER_BROKEN_POST = 0.0"),
    Patch(
        "S5",
        _SESSION,
        'event.event == "endpoint" and not self._stream.at_end',
        'event.event == "endpoint"',
    ),
    Patch("S7", _SESSION, "self._replier.finish()", "pass"),
    Patch(
        "S8",
        _SESSION,
        "self._endpoints.put(reason.as_kind(type(reason)))\n        self._replier",
        "self._replier",
    ),
    Patch("S9", _SESSION, "if self._stream.at_end:\n", "if False:\n"),
    Patch("S11", _SESSION, "if self._can_post.wait(deadline.remaining()):", "if True:"),
    Patch(
        "S12",
        _SESSION,
        "self._stream.release()  # the reader does it otherwise, but it never started",
        "pass",
    ),
    Patch("S14", _SESSION, "not self._closing and self._pending.usable", "self._pending.usable"),
    Patch("S16", _SESSION, "self._pending.discard(waiter)", "pass"),
    Patch("S17", _SESSION, 'self._endpoints.put(reason("the session was closed"))', "pass"),
    Patch("P1", _POOL, "_PING_SECONDS = 5.0", "_PING_SECONDS = 50.0"),
    Patch(
        "P3",
        _POOL,
        "opening.failure is not None and not isinstance(opening.failure, DeadlineExceededError)",
        "opening.failure is not None",
    ),
    Patch("P10", _POOL, "if slot is None or slot.loans:", "if slot is None:"),
    Patch(
        "P11",
        _POOL,
        "old if isinstance(error, DeadlineExceededError) else _ended(old)",
        "_ended(old)",
    ),
    Patch("T1", _RECORDER, "_REFUSED_PAUSE = 120.0", "_REFUSED_PAUSE = 12.0"),
    Patch("T3", _RECORDER, "return lost or message.attempt_started_at is not None", "return lost"),
    Patch(
        "T4",
        _RECORDER,
        "self.may_repeat(message, token) is False",
        "not self.may_repeat(message, token)",
    ),
    Patch(
        "T6",
        _RECORDER,
        'except Exception as error:\n            logger.exception("backoff',
        'except (TypeError, ValueError) as error:\n            logger.exception("backoff',
    ),
    Patch("T7", _RECORDER, "max(self.after(seconds), self.clock())", "self.after(seconds)"),
    Patch("T8", _RECORDER, "self.after(max(seconds, SHORTEST_PAUSE))", "self.after(seconds)"),
    Patch(
        "T10",
        _RECORDER,
        "min(_LONGEST_BACKOFF, timedelta(minutes=2 ** min(retry_count, _DOUBLINGS_AT_MOST + 1)))",
        "timedelta(minutes=2 ** min(retry_count, _DOUBLINGS_AT_MOST + 1))",
    ),
    Patch("T11", _RECORDER, "_with_doubt(message, error))", "error)"),
    Patch("T12", _RECORDER, ' if recorded.step == "dead" else recorded', ""),
    Patch("R3", _WORKER, "_NO_TOKEN_PAUSE = 120.0", "_NO_TOKEN_PAUSE = 1.0"),
    Patch(
        "R5",
        _WORKER,
        "recorder = self.recorder\n        if due.stopping.is_set():",
        "recorder = self.recorder\n        if False:",
    ),
    Patch(
        "R8",
        _WORKER,
        'and result.outcome in {"sent", "rejected"}',
        'and result.outcome in {"sent"}',
    ),
    Patch("R9", _RECORDER, "due = message.next_retry_at or self.clock()", "due = self.clock()"),
    Patch(
        "R11",
        _WORKER,
        'due.end()\n            logger.exception("around',
        'logger.exception("around',
    ),
    Patch("R12", _WORKER, "self._once or not (fetched or hidden)", "self._once"),
    Patch("H2", _HANDLER, '[f"{key}:{number}" for key in delivery]', "delivery"),
    Patch("H3", _HANDLER, "[ -~]{0,1000}", "[ -~]{0,999}"),
    Patch("H5", _HANDLER, "[ -~]{0,1000}", "[ -~]{0,10000}"),
    Patch("G3", _SIGNATURES, "[1-9][0-9]{0,14}", "[1-9][0-9]{0,13}"),
    Patch("G3b", _SIGNATURES, "[1-9][0-9]{0,14}", "[1-9][0-9]{0,15}"),
    Patch(
        "A6",
        _ANSWERS,
        "by_text and by_text.kind is not ToolNotAvailable",
        "by_text",
    ),
    Patch("A13", _MOMENTS, "return moment.replace(tzinfo=timezone.utc)", "return moment"),
)
