"""The admin page of the outgoing messages: list, search, retry, dismiss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest

from buttdial_sync.contrib.django.models import OutboxMessage
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.retry.rows import COLUMNS

_SECRET = "agent_token"


@admin.register(OutboxMessage)
class OutboxMessageAdmin(admin.ModelAdmin):
    """Rows are written by the outbox and changed by the actions, never by hand."""

    list_display = ("recipient", "channel", "status", "retry_count", "next_retry_at", "last_error")
    list_filter = ("status", "channel", "created_at")
    search_fields = ("id", "recipient", "body", "agent_name", "last_error", "message_sid")
    ordering = ("-created_at", "-id")
    date_hierarchy = "created_at"
    show_full_result_count = False
    fields = readonly_fields = tuple(name for name in COLUMNS if name != _SECRET)
    actions = ("retry", "retry_even_if_sent", "dismiss")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes messages here."""
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse to filter by a secret: a viewer could find it character by character."""
        if _SECRET in lookup.split(LOOKUP_SEP):
            return False
        # Django passes the request from 5.0 on.
        given = () if request is None else (request,)
        allowed: bool = super().lookup_allowed(lookup, value, *given)
        return allowed

    @admin.action(description="Send again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen messages due now, but not those that may have been sent."""
        unknown = chosen.filter(attempt_started_at__isnull=False).count()
        certain = chosen.filter(attempt_started_at__isnull=True)
        self._change(request, certain, get_repository().force_retry, "queued")
        if unknown:
            refused = (
                f"{unknown} not queued: the outcome of the last attempt is unknown, so they may "
                "have been sent already, or are being sent. See the action "
                f'"{self.retry_even_if_sent.short_description}"'
            )
            self.message_user(request, refused, messages.WARNING)

    @admin.action(description="Send again even if it may have been sent", permissions=["change"])
    def retry_even_if_sent(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen messages due now; without keys, people may get one twice."""
        force_retry = partial(get_repository().force_retry, even_if_sent=True)
        self._change(request, chosen, force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen messages up."""
        self._change(request, chosen, get_repository().dismiss, "dismissed")

    def _change(
        self, request: HttpRequest, chosen: Any, change: Callable[[str], bool], word: str
    ) -> None:
        ids = list(chosen.values_list("pk", flat=True))
        changed = sum(map(change, ids))
        self.message_user(request, f"{changed} {word}", messages.SUCCESS)
        if changed < len(ids):
            refused = f"{len(ids) - changed} not changed: already done, or being sent now"
            self.message_user(request, refused, messages.WARNING)
