"""What became of a row, in one word and one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import attrs
from django.conf import settings
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.timesince import timesince, timeuntil
from django.utils.timezone import localtime

from buttdial_sync.errors.moments import as_utc
from buttdial_sync.retry import recorder
from buttdial_sync.retry.pauses import Pause

Tone = Literal["good", "busy", "quiet", "warning", "bad"]

_SECONDS = "Y-m-d H:i:s"
NOT_DELIVERED = ("failed", "undelivered")


@attrs.frozen
class State:
    """
    Where a row stands.

    Attributes:
        name: For filters and addresses.
        label: For people.
        mark: Says the same as the colour, for those who see none.
        tone: The colour.
    """

    name: str
    label: str
    mark: str
    tone: Tone

    @property
    def badge(self) -> str:
        """Return it as HTML."""
        return str(
            format_html(
                '<span class="buttdial-state buttdial-{}">{}&nbsp;{}</span>',
                self.tone,
                self.mark,
                self.label,
            )
        )


SENT = State("sent", "sent", "✓", "good")
UNDELIVERED = State("undelivered", "not delivered", "✗", "bad")
HANDLED = State("handled", "handled", "✓", "good")
HANDED_OVER = State("handed_over", "handed over", "✓", "good")
BUSY = State("busy", "in progress", "»", "busy")
DUE = State("due", "due now", "●", "busy")
WAITING = State("waiting", "waits", "○", "quiet")
UNANSWERED = State("unanswered", "no answer yet", "○", "quiet")
RESTING = State("resting", "at rest", "‖", "warning")
UNKNOWN = State("unknown", "unknown", "?", "warning")
EXPIRED = State("expired", "expired", "✗", "bad")
DEAD = State("dead", "given up", "✗", "bad")
DISMISSED = State("dismissed", "dismissed", "-", "quiet")


@attrs.frozen
class Summary:
    """
    What became of a row.

    Attributes:
        state: In one word.
        text: In one sentence.
    """

    state: State
    text: str


def summary_of_message(row: Any, now: datetime, pauses: Sequence[Pause] = ()) -> Summary:
    """
    Say what became of an outgoing message.

    The filter :class:`~buttdial_sync.contrib.django.admin.filters.StateFilter` finds rows by the
    same rules.

    Args:
        row: An ``OutboxMessage``.
        now: The time (aware).
        pauses: Of agents whose messages are not sent.
    """
    if row.status == "delivered":
        return _of_sent(row)
    if row.status == "dismissed":
        doubt = "; it may have been sent" if row.attempt_started_at else ""
        return Summary(DISMISSED, f"A person gave it up{_on(row.resolved_at)}{doubt}.")
    if row.status == "pending" and is_later(row.leased_until, now):
        if row.attempt_started_at is None:
            return Summary(BUSY, "A worker has it, and sends it next.")
        return Summary(BUSY, f"An attempt is under way since {at(row.attempt_started_at)}.")
    if row.attempt_started_at is not None:
        return _of_unknown(row, now)
    if row.status == "dead":
        state = EXPIRED if _is_over(row.expires_at, row.resolved_at) else DEAD
        return Summary(state, _given_up(row))
    if _is_over(row.expires_at, now):
        return Summary(EXPIRED, f"Too late since {at(row.expires_at)}: the loop gives it up.")
    return _of_pending(row, now, pauses)


def _of_sent(row: Any) -> Summary:
    sent = f"Sent{f' as {row.message_sid}' if row.message_sid else ''}{_on(row.resolved_at)}"
    if row.receipt_status in NOT_DELIVERED:
        reason = row.receipt_error or "the receipt gives no reason"
        return Summary(UNDELIVERED, f"{sent}, but not delivered: {_sentence(reason)}")
    if row.receipt_status:
        return Summary(SENT, f"{sent}; {row.receipt_status}{_on(row.receipt_at)}.")
    return Summary(SENT, f"{sent}.")


def _of_unknown(row: Any, now: datetime) -> Summary:
    doubt = f"Nobody knows whether it was sent: an attempt began{_on(row.attempt_started_at)}"
    error = (row.last_error or "").removeprefix(recorder.UNKNOWN).strip(" ;:.")
    if error:
        doubt += f"; {error}"
    if row.status == "dead":
        advice = "Find out whether it arrived, before you send it again"
    elif is_later(row.next_retry_at, now):
        advice = f"The next attempt is {_when(row.next_retry_at, now)}, with the same key"
    else:
        advice = "The loop takes it next: it repeats it only where the server honours keys"
    return Summary(UNKNOWN, f"{doubt}. {advice}.")


def _of_pending(row: Any, now: datetime, pauses: Sequence[Pause]) -> Summary:
    for pause in pauses:
        if pause.agent_id in {None, row.agent_id or ""}:
            why = _sentence(pause.reason or "no reason given")
            who = capfirst(name_of(pause.agent_id))
            return Summary(RESTING, f"{who} is paused since {at(pause.since)}: {why}")
    last = f" The last attempt: {_error(row)}" if row.last_error else ""
    if not is_later(row.next_retry_at, now):
        return Summary(DUE, f"Due since {_ago(row.next_retry_at, now)}: a worker takes it.{last}")
    when = _when(row.next_retry_at, now)
    if not row.last_error:
        return Summary(WAITING, f"Waits for its time: {when}.")
    if is_spared(row):
        return Summary(RESTING, f"At rest until {when}, without losing an attempt: {_error(row)}")
    return Summary(
        WAITING,
        f"Waits for its next attempt, number {row.retry_count + 1} of {row.max_retries}: {when}."
        + last,
    )


def summary_of_event(row: Any, now: datetime) -> Summary:
    """
    Say what became of an incoming event.

    Args:
        row: An ``InboxEvent``.
        now: The time (aware).
    """
    if row.status == "handled":
        return Summary(HANDLED, f"Handled{_on(row.resolved_at)}.")
    return _of_work(row, now, "handler", "Waits for the handlers")


def summary_of_question(row: Any, now: datetime) -> Summary:
    """
    Say what became of a question to a person.

    Args:
        row: An ``AiloopQuestion``.
        now: The time (aware).
    """
    if row.status == "handed_over":
        return Summary(HANDED_OVER, f"The answer was handed over{_on(row.resolved_at)}.")
    if row.status == "pending" and not row.reply:
        until = at(row.expires_at)
        return Summary(UNANSWERED, f"Nobody has answered yet; there is time until {until}.")
    return _of_work(row, now, "function that gets the answers", "Answered; waits for the project")


def _of_work(row: Any, now: datetime, handler: str, waits: str) -> Summary:
    if row.status == "dismissed":
        return Summary(DISMISSED, f"A person gave it up{_on(row.resolved_at)}.")
    if row.status == "dead":
        return Summary(DEAD, _given_up(row))
    if is_later(row.leased_until, now):
        return Summary(BUSY, "A worker handles it now.")
    if is_later(row.next_retry_at, now):
        when = _when(row.next_retry_at, now)
        return Summary(WAITING, f"The {handler} failed, and is called again {when}: {_error(row)}")
    last = f" The last time: {_error(row)}" if row.last_error else ""
    return Summary(DUE, f"{waits} since {_ago(row.next_retry_at, now)}.{last}")


def is_spared(row: Any) -> bool:
    """
    Whether the last attempt of a message did not count, because of a limit or an outage.

    As far as its row knows: it may be an earlier one that did not.
    """
    is_counted = row.retry_count and (row.attempt_number or 0) <= row.retry_count
    return bool(row.last_error) and not is_counted


def name_of(agent_id: str | None) -> str:
    """Return whose messages a pause stops; None for all."""
    if agent_id is None:
        return "everything"
    return f"agent {agent_id}" if agent_id else "what names no agent"


def at(moment: datetime | None) -> str:
    """Return a time in words: in the project's zone; in UTC where it has none."""
    if moment is None:
        return "an unknown time"
    if not settings.USE_TZ:
        return f"{date_format(as_utc(moment), _SECONDS)} UTC"
    return str(date_format(localtime(as_utc(moment)), _SECONDS))


def is_later(moment: datetime | None, now: datetime) -> bool:
    """Whether a time is still to come; without a zone it is UTC."""
    return moment is not None and as_utc(moment) > now


def _on(moment: datetime | None) -> str:
    return "" if moment is None else f" on {at(moment)}"


def _when(moment: datetime, now: datetime) -> str:
    return f"{at(moment)} (in {_spaced(timeuntil(as_utc(moment), now))})"


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return at(moment)
    return f"{at(moment)} ({_spaced(timesince(as_utc(moment), now))} ago)"


def _spaced(text: str) -> str:
    return text.replace("\xa0", " ")


def _is_over(end: datetime | None, moment: datetime | None) -> bool:
    return end is not None and moment is not None and as_utc(end) <= as_utc(moment)


def _given_up(row: Any) -> str:
    count = max(row.retry_count, row.attempt_number or 0)
    attempts = "1 attempt" if count == 1 else f"{count or 'no'} attempts"
    return f"Given up{_on(row.resolved_at)} after {attempts}: {_error(row)}"


def _error(row: Any) -> str:
    return _sentence(row.last_error or "no reason is known")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
