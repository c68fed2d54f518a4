"""The admin pages of the outgoing messages, of what came in, and of questions to people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.functional import cached_property

from buttdial_sync.ailoop.questions import questions_schema
from buttdial_sync.contrib.django.inbox import DatabaseInbox, get_inbox
from buttdial_sync.contrib.django.models import AiloopQuestion, InboxEvent, OutboxMessage
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.contrib.django.questions import get_questions
from buttdial_sync.inbound.inbox import inbox_schema
from buttdial_sync.models.message import Channel
from buttdial_sync.retry.rows import COLUMNS
from buttdial_sync.stores.figures import MOST

_SECRET = "agent_token"
_DASHBOARD = "buttdial_sync_outboxmessage_dashboard"
_TEMPLATES = "admin/buttdial_sync/outboxmessage"


class _BoundedPaginator(Paginator):
    """Counts to 10,000 and no further: to count a million rows would take longer than the page."""

    @cached_property
    def count(self) -> int:
        """How many rows may be paged through."""
        return int(self.object_list.order_by()[:MOST].count())


class _ChannelFilter(admin.SimpleListFilter):
    """Offers the channels that there are; Django would look for those of all rows."""

    title = "channel"
    parameter_name = "channel"

    def lookups(self, _: HttpRequest, __: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(channel, channel) for channel in get_args(Channel)]

    def queryset(self, _: HttpRequest, rows: Any) -> Any:
        """Return the rows of the chosen channel."""
        return rows if self.value() is None else rows.filter(channel=self.value())


class _Rows(admin.ModelAdmin):
    """
    Rows are written by the library and changed by the actions, never by hand.

    Lists end after 10,000 rows: older ones are found by a filter or a search.
    """

    ordering = ("-created_at", "-id")
    date_hierarchy: str | None = "created_at"
    show_full_result_count = False
    paginator = _BoundedPaginator

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes rows here."""
        return False

    def _change(
        self, request: HttpRequest, chosen: Any, change: Callable[[str], bool], word: str
    ) -> None:
        self._change_many(request, chosen, lambda ids: sum(map(change, ids)), word)

    def _change_many(
        self,
        request: HttpRequest,
        chosen: Any,
        change: Callable[[Sequence[str]], int],
        word: str,
    ) -> None:
        # All that the page has counted, when somebody selects all.
        ids = list(chosen.values_list("pk", flat=True)[:MOST])
        changed = change(ids)
        self.message_user(request, f"{changed} {word}", messages.SUCCESS)
        if changed < len(ids):
            refused = f"{len(ids) - changed} not changed: already done, or being sent now"
            self.message_user(request, refused, messages.WARNING)


@admin.register(OutboxMessage)
class OutboxMessageAdmin(_Rows):
    """Outgoing messages: list, search, retry, dismiss."""

    date_hierarchy = None  # Django would read all rows for it
    change_list_template = f"{_TEMPLATES}/change_list.html"
    list_display = ("recipient", "channel", "status", "retry_count", "next_retry_at", "last_error")
    list_filter = ("status", _ChannelFilter, "created_at")
    search_fields = ("id", "recipient", "body", "agent_name", "last_error", "message_sid")
    fields = readonly_fields = tuple(name for name in COLUMNS if name != _SECRET)
    actions = ("retry", "retry_even_if_sent", "dismiss")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse to filter by a secret: a viewer could find it character by character."""
        if _SECRET in lookup.split(LOOKUP_SEP):
            return False
        # Django passes the request from 5.0 on.
        given = () if request is None else (request,)
        allowed: bool = super().lookup_allowed(lookup, value, *given)
        return allowed

    def get_urls(self) -> list[Any]:
        """Add the dashboard to the pages."""
        view = self.admin_site.admin_view(self.dashboard)
        return [path("dashboard/", view, name=_DASHBOARD), *super().get_urls()]

    def dashboard(self, request: HttpRequest) -> TemplateResponse:
        """Show whether messages flow, and why not."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": "Do messages flow?",
            "opts": self.model._meta,
            "figures": get_repository().figures(),
            "pauses": get_repository().paused(),
        }
        return TemplateResponse(request, f"{_TEMPLATES}/dashboard.html", context)

    @admin.action(description="Send again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen messages due now, but not those that may have been sent."""
        unknown = chosen.filter(attempt_started_at__isnull=False).count()
        certain = chosen.filter(attempt_started_at__isnull=True)
        self._change_many(request, certain, get_repository().retry_many, "queued")
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
        retry_many = partial(get_repository().retry_many, even_if_sent=True)
        self._change_many(request, chosen, retry_many, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen messages up."""
        self._change_many(request, chosen, get_repository().dismiss_many, "dismissed")


@admin.register(InboxEvent)
class InboxEventAdmin(_Rows):
    """What came in: list, search, retry, dismiss."""

    list_display = ("kind", "sender", "channel", "status", "retry_count", "created_at")
    list_filter = ("status", "kind", "channel", "created_at")
    search_fields = ("id", "sender", "payload", "last_error")
    fields = readonly_fields = inbox_schema().names
    actions = ("retry", "dismiss")

    @admin.action(description="Handle again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen events due now; handlers that have had them are not called again."""
        self._change(request, chosen, _inbox().force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen events up."""
        self._change(request, chosen, _inbox().dismiss, "dismissed")


@admin.register(AiloopQuestion)
class AiloopQuestionAdmin(_Rows):
    """Questions to people: list, search, hand over again, dismiss."""

    list_display = ("id", "about", "status", "retry_count", "expires_at", "last_error")
    list_filter = ("status", "created_at")
    search_fields = ("id", "prompt", "about", "reply", "last_error")
    fields = readonly_fields = questions_schema().names
    actions = ("retry", "dismiss")

    @admin.action(description="Hand the answer over again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen questions due now."""
        self._change(request, chosen, get_questions().force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen questions up."""
        self._change(request, chosen, get_questions().dismiss, "dismissed")


def _inbox() -> DatabaseInbox:
    return get_inbox() or DatabaseInbox()  # rows may be there from before it was switched off
