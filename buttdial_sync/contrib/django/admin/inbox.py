"""The admin pages of what came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from buttdial_sync.contrib.django.admin.pages import RowsAdmin
from buttdial_sync.contrib.django.admin.summaries import Summary, is_later, summary_of_event
from buttdial_sync.contrib.django.inbox import DatabaseInbox, get_inbox
from buttdial_sync.contrib.django.models import InboxEvent


@admin.register(InboxEvent)
class InboxEventAdmin(RowsAdmin):
    """What came in: list, search, retry, dismiss."""

    date_hierarchy = "created_at"
    list_display = ("state", "kind", "sender", "channel", "what_happened", "written")
    list_display_links = ("kind",)
    list_filter = ("status", "kind", "channel", "created_at")
    search_fields = ("id", "sender", "payload", "last_error")
    actions = ("retry", "dismiss")
    helps = {  # noqa: RUF012 - as ModelAdmin has its options
        "retry": "Handlers that have had it are not called again.",
        "dismiss": "No handler gets it any more.",
    }
    groups = (
        ("Event", ("kind", "sender", "channel", "agent_id", "payload")),
        (
            "Attempts",
            (
                *("status", "retry_count", "attempt_number", "last_error", "first_failed_at"),
                *("next_retry_at", "leased_until"),
            ),
        ),
        ("Row", ("id", "order_key", "created_at", "resolved_at")),
    )
    fields = readonly_fields = tuple(name for _, names in groups for name in names)

    def now(self) -> datetime:
        """Return the time of the inbox."""
        return _inbox().store.now()

    def summarizer(self) -> Callable[[Any], Summary]:
        """Return what says what became of an event."""
        return partial(summary_of_event, now=self.now())

    def offered(self, row: Any) -> Iterator[str]:
        """Name what may help: nothing while it is being handled, or after that."""
        if row.status in {"pending", "dead"} and not is_later(row.leased_until, self.now()):
            yield from ("retry", "dismiss")

    def history_of(self, row: Any) -> Iterator[tuple[datetime, str]]:
        """Tell what the row knows of its attempts."""
        told = {
            "created_at": "It came in",
            "first_failed_at": "A handler failed for the first time",
            "leased_until": "A worker has it until then at most",
            "next_retry_at": row.status == "pending" and "Due",
            "resolved_at": f"It was {'given up' if row.status == 'dead' else row.status}",
        }
        for name, text in told.items():
            if getattr(row, name) is not None and text:
                yield getattr(row, name), text

    @admin.action(description="Handle again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen events due now; handlers that have had them are not called again."""
        self.change_one_by_one(request, chosen, _inbox().force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen events up."""
        self.change_one_by_one(request, chosen, _inbox().dismiss, "dismissed")


def _inbox() -> DatabaseInbox:
    return get_inbox() or DatabaseInbox()  # rows may be there from before it was switched off
