"""What the pages of all rows have in common: they show, and change nothing but by actions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.timezone import is_naive, make_aware

from buttdial_sync.contrib.django.admin.summaries import Summary, at, is_later
from buttdial_sync.errors.moments import as_utc
from buttdial_sync.stores.figures import MOST

_LOGGED_AT_ONCE = 500
_LOG_LINES = 50
_LONGEST_NAME = 200


@attrs.frozen
class Button:
    """
    An action on a row's page.

    Attributes:
        action: The action's name.
        label: What is written on it.
        help: What it does.
    """

    action: str
    label: str
    help: str


@attrs.frozen
class Moment:
    """
    A line of a row's history.

    Attributes:
        when: Its time, in words.
        text: What happened, or will.
        is_to_come: Whether it is still to come.
    """

    when: str
    text: str
    is_to_come: bool = False


class _BoundedPaginator(Paginator):
    """Counts to 10,000 and no further: to count a million rows would take longer than the page."""

    @cached_property
    def count(self) -> int:
        """How many rows may be paged through."""
        return int(self.object_list.order_by()[:MOST].count())


class _SummarizedList(ChangeList):
    """A list whose rows know what became of them."""

    def get_results(self, request: HttpRequest) -> None:
        """Get the rows of a page, and summarize them."""
        super().get_results(request)
        summarize = self.model_admin.summarizer()
        for row in self.result_list:
            row.summary = summarize(row)


class RowsAdmin(admin.ModelAdmin):
    """
    Rows are written by the library and changed by the actions, never by hand.

    Lists end after 10,000 rows: older ones are found by a filter or a search.

    Attributes:
        groups: The fields of a row's page, by heading. Empty ones are not shown.
        helps: What each action does, in a sentence.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    helps: dict[str, str] = {}  # noqa: RUF012 - as ModelAdmin has its options

    ordering = ("-created_at", "-id")
    sortable_by = ("written",)
    show_full_result_count = False
    # Counts in the filters, which Django has from 5.0 on, read the whole table for each.
    show_facets = getattr(getattr(admin, "ShowFacets", None), "NEVER", None)
    paginator = _BoundedPaginator

    class Media:
        """The colours."""

        css = {"all": ("buttdial_sync/admin.css",)}  # noqa: RUF012 - as Django has it

    def summarizer(self) -> Callable[[Any], Summary]:
        """Return what says what became of a row; it asks the database only here."""
        raise NotImplementedError

    def offered(self, row: Any) -> Iterable[str]:
        """Name the actions that make sense for a row that is not done, and that no worker has."""
        raise NotImplementedError

    def history_of(self, row: Any) -> Mapping[str, str]:
        """Tell what the times of a row mean, by their names; empty for those that mean nothing."""
        raise NotImplementedError

    def table(self) -> Any:
        """Return what reads and changes the rows."""
        raise NotImplementedError

    def now(self) -> datetime:
        """Return the time (aware) by which rows are due."""
        moment: datetime = self.table().store.now()
        return moment

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes rows here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The permission is for the actions; no form of a row can be saved."""
        return obj is None and bool(super().has_change_permission(request))

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:
        """Return the list with summaries."""
        return _SummarizedList

    @admin.display(description="state")
    def state(self, row: Any) -> str:
        """Show the state in colour."""
        return str(row.summary.state.badge)

    @admin.display(description="what happened")
    def what_happened(self, row: Any) -> str:
        """Tell what became of the row."""
        return str(row.summary.text)

    @admin.display(description="written", ordering="created_at")
    def written(self, row: Any) -> str:
        """Show since when there is the row."""
        return at(row.created_at)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its name: nothing in it is selected to be edited."""
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        response: HttpResponse = super().changelist_view(request, title | (extra_context or {}))
        return response

    def get_urls(self) -> list[Any]:
        """Add the address of the buttons."""
        view = self.admin_site.admin_view(self.press)
        return [
            path("<path:object_id>/do/<slug:action>/", view, name=self._do),
            *super().get_urls(),
        ]

    def press(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        """Carry out an action for one row, and show the row again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        # Only those that the user may carry out, as in the list.
        if action not in self.actions or action not in self.get_actions(request):
            raise PermissionDenied
        chosen = self.get_queryset(request).filter(pk=unquote(object_id))
        if not chosen.exists():
            raise Http404
        getattr(self, action)(request, chosen)
        return redirect(self.address_of(unquote(object_id)))

    def address_of(self, row_id: str) -> str:
        """Return the address of a row's page."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        address: str = reverse(name, args=(quote(row_id),), current_app=self.admin_site.name)
        return address

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> TemplateResponse:
        """Show a row in words, in place of a form."""
        row = context["original"]
        context.update(
            title=capfirst(self.opts.verbose_name),
            summary=self.summarizer()(row),
            buttons=list(self._buttons(request, row)),
            do=f"admin:{self._do}",
            moments=self._moments(row),
            groups=list(self._groups(row)),
        )
        response: TemplateResponse = super().render_change_form(request, context, *args, **options)
        return response

    @property
    def _do(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_do"

    def _buttons(self, request: HttpRequest, row: Any) -> Iterator[Button]:
        if row.status not in {"pending", "dead"} or is_later(row.leased_until, self.now()):
            return
        allowed = self.get_actions(request)
        for name in self.offered(row):
            if name in allowed:
                yield Button(name, getattr(self, name).short_description, self.helps[name])

    def _moments(self, row: Any) -> list[Moment]:
        """Return a row's history, with what people did here."""
        now = self.now()
        logged = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(self.model), object_id=str(row.pk)
        )
        done = [
            (
                _aware(entry.action_time),
                f"{entry.user.get_username()}: {entry.get_change_message()}",
            )
            for entry in logged.select_related("user").order_by("-action_time")[:_LOG_LINES]
        ]
        known = [
            (getattr(row, name), text)
            for name, text in self.history_of(row).items()
            if text and getattr(row, name) is not None
        ]
        moments = sorted(known + done, key=lambda moment: as_utc(moment[0]))
        return [Moment(at(when), text, is_later(when, now)) for when, text in moments]

    def _groups(self, row: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        for title, names in self.groups:
            shown = [
                (capfirst(self.opts.get_field(name).verbose_name), _plain(getattr(row, name)))
                for name in names
                if getattr(row, name) not in {None, "", 0}
            ]
            if shown:
                yield title, shown

    def change_one_by_one(
        self, request: HttpRequest, chosen: Any, change: Callable[[str], bool], word: str
    ) -> None:
        """Change rows where the library knows no statement for many; see :meth:`change_many`."""
        self.change_many(request, chosen, lambda ids: sum(map(change, ids)), word)

    def change_many(
        self,
        request: HttpRequest,
        chosen: Any,
        change: Callable[[Sequence[str]], int],
        word: str,
    ) -> None:
        """
        Change rows, write that into the admin's log, and say how many were changed.

        Args:
            request: Whose user wants it.
            chosen: The rows. At most 10,000, all that the page has counted.
            change: Gets their ids, and returns how many it changed.
            word: What they are then.
        """
        ids = list(chosen.values_list("pk", flat=True)[:MOST])
        changed = change(ids)
        if changed:
            self._log(request, ids, f"asked for: {word}")
            self.message_user(request, f"{changed} {word}", messages.SUCCESS)
        if changed < len(ids):
            refused = f"{len(ids) - changed} not changed: already done, or being sent now"
            self.message_user(request, refused, messages.WARNING)

    def _log(self, request: HttpRequest, ids: Sequence[str], text: str) -> None:
        kind = ContentType.objects.get_for_model(self.model)
        entries = [
            LogEntry(
                user_id=request.user.pk,
                content_type_id=kind.pk,
                object_id=row_id,
                object_repr=row_id[:_LONGEST_NAME],
                action_flag=CHANGE,
                change_message=text,
            )
            for row_id in ids
        ]
        LogEntry.objects.bulk_create(entries, batch_size=_LOGGED_AT_ONCE)


def _aware(moment: datetime) -> datetime:
    """Return a time of Django's own; without a zone it is a local one, unlike those of rows."""
    return make_aware(moment) if is_naive(moment) else moment


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return at(value)
    text = str(value)
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
