"""The admin pages of the outgoing messages: a list, each row, whether messages flow, pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import TextField, Value
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from buttdial_sync.contrib.django.admin.filters import ChannelFilter, StateFilter
from buttdial_sync.contrib.django.admin.pages import RowsAdmin
from buttdial_sync.contrib.django.admin.summaries import (
    Summary,
    at,
    is_later,
    is_spared,
    name_of,
    summary_of_message,
)
from buttdial_sync.contrib.django.models import OutboxMessage, OutboxPause
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.contrib.django.repository import DatabaseRepository

_SECRET = "agent_token"
_PAGES = "buttdial_sync_outboxmessage"
_TEMPLATES = "admin/buttdial_sync/outboxmessage"
_AGENTS_SHOWN = 100
_LOOKED_AT = 50
_END = {
    "delivered": "The server took it",
    "dead": "Given up",
    "dismissed": "A person gave it up",
}


@admin.register(OutboxMessage)
class OutboxMessageAdmin(RowsAdmin):
    """Outgoing messages: list, search, retry, dismiss, pause."""

    change_list_template = f"{_TEMPLATES}/change_list.html"
    list_display = ("state", "message", "what_happened", "agent", "written")
    list_display_links = ("message",)
    list_filter = (StateFilter, ChannelFilter, "status", "created_at")
    search_fields = ("id", "recipient", "body", "agent_name", "last_error", "message_sid")
    actions = ("retry", "retry_even_if_sent", "dismiss")
    helps = {  # noqa: RUF012 - as ModelAdmin has its options
        "retry": "Makes it due now, with one attempt at least.",
        "retry_even_if_sent": "Makes it due now. The recipient may get it twice, unless the "
        "server honours idempotency keys.",
        "dismiss": "It is never sent. This cannot be undone.",
    }
    groups = (
        (
            "Message",
            (
                *("recipient", "channel", "subject", "body", "html", "media_url", "language"),
                *("template_id", "template_vars", "scheduled_at", "fallback_channels"),
                *("target_gender", "reply_msg_id", "thread_id", "entity_id"),
            ),
        ),
        ("Sender", ("agent_name", "agent_id", "sender_name", "sender_sid")),
        (
            "Attempts",
            (
                *("status", "retry_count", "max_retries", "attempt_number", "last_error"),
                *("attempt_started_at", "next_retry_at", "expires_at", "seconds_waited"),
                *("priority", "ordering_key", "leased_until"),
            ),
        ),
        ("Receipt", ("message_sid", "receipt_status", "receipt_at", "receipt_error")),
        ("Row", ("id", "idempotency_key", "unique_key", "created_at", "resolved_at")),
    )
    fields = readonly_fields = tuple(name for _, names in groups for name in names)

    @admin.display(description="message")
    def message(self, row: Any) -> str:
        """Show the channel and the recipient."""
        return str(row)

    @admin.display(description="agent")
    def agent(self, row: Any) -> str:
        """Show who sends it, by the name for people if there is one."""
        return str(row.agent_name or row.agent_id or "")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse to filter by a secret: a viewer could find it character by character."""
        if _SECRET in lookup.split(LOOKUP_SEP):
            return False
        # Django passes the request from 5.0 on.
        given = () if request is None else (request,)
        allowed: bool = super().lookup_allowed(lookup, value, *given)
        return allowed

    def table(self) -> DatabaseRepository:
        """Return the repository."""
        return get_repository()

    def summarizer(self) -> Callable[[Any], Summary]:
        """Return what says what became of a message."""
        return partial(summary_of_message, now=self.now(), pauses=self.table().paused())

    def offered(self, row: Any) -> Iterator[str]:
        """Name what may help."""
        yield "retry" if row.attempt_started_at is None else "retry_even_if_sent"
        yield "dismiss"

    def history_of(self, row: Any) -> Mapping[str, str]:
        """Tell what the row knows of its attempts and receipts."""
        due = f"Due: attempt {row.retry_count + 1} of {row.max_retries}"
        is_open = row.status == "pending"
        return {
            "created_at": "Written",
            "attempt_started_at": "An attempt began whose end nobody recorded",
            "leased_until": "A worker has it until then at most" if is_open else "",
            "next_retry_at": due if is_open else "",
            "expires_at": "Too late from then on",
            "resolved_at": _END.get(row.status, row.status),
            "receipt_at": f"Receipt: {row.receipt_status} {row.receipt_error or ''}",
        }

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> TemplateResponse:
        """Show a row, what it waits for, and the pause of its agent."""
        row = context["original"]
        if row.status == "pending":
            context["notes"] = list(self._notes(row))
            context["agent_id"] = row.agent_id or ""
            context["may_pause"] = self.has_change_permission(request)
            context["is_paused"] = _is_paused(row.agent_id or "")
        response: TemplateResponse = super().render_change_form(request, context, *args, **options)
        return response

    def _notes(self, row: Any) -> Iterator[tuple[str, str]]:
        """Tell which other rows a pending one waits for, with their addresses."""
        rows = OutboxMessage.objects.using(self.table().alias).filter(status="pending")
        if row.ordering_key:
            same = rows.filter(ordering_key=row.ordering_key, agent_id=row.agent_id)
            earlier = same.filter(created_at__lt=row.created_at).order_by("created_at").first()
            if earlier is not None:
                yield f"It waits for an earlier message: {earlier}.", self.address_of(earlier.pk)
        # Only one message meets a limit or an outage; it is due when that ends.
        agents = rows.annotate(
            agent=Coalesce("agent_id", Value(""), output_field=TextField()),
            level=Coalesce("priority", Value(0)),
        ).filter(agent=row.agent_id or "", level=row.priority or 0)
        now = self.now()
        for other in agents.order_by("-next_retry_at", "-created_at")[:_LOOKED_AT]:
            if other.pk != row.pk and is_spared(other) and is_later(other.next_retry_at, now):
                why = f"Its agent rests until {at(other.next_retry_at)}: {other.last_error}"
                yield why, self.address_of(other.pk)
                return

    def get_urls(self) -> list[Any]:
        """Add the dashboard and the pauses to the pages."""
        views = {"dashboard": self.dashboard, "pause": self.pause, "resume": self.resume}
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), name=f"{_PAGES}_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def dashboard(self, request: HttpRequest) -> TemplateResponse:
        """Show whether messages flow, and why not."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        repository = self.table()
        figures = repository.figures()
        pauses = {pause.agent_id: pause for pause in repository.paused()}
        context = {
            "title": "Do messages flow?",
            "figures": figures,
            "agents": [
                (each, at(each.next_due_at), each.agent_id in pauses)
                for each in figures.agents[:_AGENTS_SHOWN]
            ],
            "pauses": [
                (agent, f"{name_of(agent)} is paused since {at(pause.since)}", pause.reason)
                for agent, pause in pauses.items()
            ],
            "is_all_paused": None in pauses,
            "may_pause": self.has_change_permission(request),
        }
        return self._page(request, "dashboard", context)

    def pause(self, request: HttpRequest) -> HttpResponse:
        """Ask for the reason of a pause (GET), and begin it (POST)."""
        agent_id = self._agent_to_change(request)
        if request.method != "POST":
            context = {"title": f"Pause {name_of(agent_id)}", "agent_id": agent_id}
            return self._page(request, "pause", context)
        reason = request.POST.get("reason", "").strip()
        if self.table().pause(agent_id, reason=reason):
            self._tell(request, agent_id, "paused", reason)
        return redirect(reverse(f"admin:{_PAGES}_dashboard", current_app=self.admin_site.name))

    def resume(self, request: HttpRequest) -> HttpResponse:
        """End a pause (POST)."""
        agent_id = self._agent_to_change(request)
        if request.method == "POST" and self.table().resume(agent_id):
            self._tell(request, agent_id, "resumed")
        return redirect(reverse(f"admin:{_PAGES}_dashboard", current_app=self.admin_site.name))

    @admin.action(description="Send again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen messages due now, but not those that may have been sent."""
        unknown = chosen.filter(attempt_started_at__isnull=False).count()
        certain = chosen.filter(attempt_started_at__isnull=True)
        self.change_many(request, certain, self.table().retry_many, "queued")
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
        retry_many = partial(self.table().retry_many, even_if_sent=True)
        self.change_many(request, chosen, retry_many, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen messages up."""
        self.change_many(request, chosen, self.table().dismiss_many, "dismissed")

    def _agent_to_change(self, request: HttpRequest) -> str | None:
        """Return the agent that a request is about; None for all."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        if given.get("everything"):
            return None
        if "agent" not in given:
            raise SuspiciousOperation("a pause is about an agent, or about everything")
        return str(given["agent"])

    def _tell(
        self, request: HttpRequest, agent_id: str | None, word: str, reason: str = ""
    ) -> None:
        name = name_of(agent_id)
        told = f"{name} is {word}"
        self.message_user(request, told, messages.SUCCESS)
        self.log_change(request, OutboxPause(pk=name), f"{told}: {reason}" if reason else told)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = self.admin_site.each_context(request)
        context = {**shared, "opts": self.opts, "media": self.media, **context}
        return TemplateResponse(request, f"{_TEMPLATES}/{name}.html", context)


def _is_paused(agent_id: str) -> bool:
    return any(pause.agent_id == agent_id for pause in get_repository().paused())
