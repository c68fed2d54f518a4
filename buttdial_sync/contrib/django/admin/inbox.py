"""The admin pages of what came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from buttdial_sync.contrib.django.admin.pages import RowsAdmin
from buttdial_sync.contrib.django.admin.summaries import Summary, summary_of_event
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

    def table(self) -> DatabaseInbox:
        """Return the inbox, also where it is switched off: rows may be there from before."""
        return get_inbox() or DatabaseInbox()

    def summarizer(self) -> Callable[[Any], Summary]:
        """Return what says what became of an event."""
        return partial(summary_of_event, now=self.now())

    def offered(self, row: Any) -> Iterable[str]:
        """Name what may help."""
        return ("retry", "dismiss")

    def history_of(self, row: Any) -> Mapping[str, str]:
        """Tell what the row knows of its attempts."""
        return {
            "created_at": "It came in",
            "first_failed_at": "A handler failed for the first time",
            "leased_until": "A worker has it until then at most",
            "next_retry_at": "Due" if row.status == "pending" else "",
            "resolved_at": f"It was {'given up' if row.status == 'dead' else row.status}",
        }

    @admin.action(description="Handle again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen events due now; handlers that have had them are not called again."""
        self.change_one_by_one(request, chosen, self.table().force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen events up."""
        self.change_one_by_one(request, chosen, self.table().dismiss, "dismissed")
