"""The admin pages of questions to people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from buttdial_sync.contrib.django.admin.pages import RowsAdmin
from buttdial_sync.contrib.django.admin.summaries import Summary, summary_of_question
from buttdial_sync.contrib.django.models import AiloopQuestion
from buttdial_sync.contrib.django.questions import DatabaseQuestions, get_questions


@admin.register(AiloopQuestion)
class AiloopQuestionAdmin(RowsAdmin):
    """Questions to people: list, search, hand over again, dismiss."""

    date_hierarchy = "created_at"
    list_display = ("state", "id", "about", "what_happened", "written")
    list_display_links = ("id",)
    list_filter = ("status", "created_at")
    search_fields = ("id", "prompt", "about", "reply", "last_error")
    actions = ("retry", "dismiss")
    helps = {  # noqa: RUF012 - as ModelAdmin has its options
        "retry": "The function of the project is called with the answer, as if it had never been.",
        "dismiss": "An answer is not handed over any more.",
    }
    groups = (
        ("Question", ("prompt", "about", "expires_at")),
        ("Answer", ("reply",)),
        (
            "Attempts",
            (
                *("status", "retry_count", "attempt_number", "last_error", "next_retry_at"),
                "leased_until",
            ),
        ),
        ("Row", ("id", "created_at", "resolved_at")),
    )
    fields = readonly_fields = tuple(name for _, names in groups for name in names)

    def table(self) -> DatabaseQuestions:
        """Return the questions."""
        return get_questions()

    def summarizer(self) -> Callable[[Any], Summary]:
        """Return what says what became of a question."""
        return partial(summary_of_question, now=self.now())

    def offered(self, row: Any) -> Iterator[str]:
        """Name what may help: an answer can be handed over again, and a question given up."""
        if row.reply:
            yield "retry"
        yield "dismiss"

    def history_of(self, row: Any) -> Mapping[str, str]:
        """Tell what the row knows of its answer."""
        return {
            "created_at": "Asked",
            "leased_until": "A worker has it until then at most",
            "next_retry_at": "The answer is looked for again" if row.status == "pending" else "",
            "expires_at": "There is no answer any more from then on",
            "resolved_at": "Given up" if row.status == "dead" else row.status.replace("_", " "),
        }

    @admin.action(description="Hand the answer over again now", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        """Make the chosen questions due now."""
        self.change_one_by_one(request, chosen, self.table().force_retry, "queued")

    @admin.action(description="Give up", permissions=["change"])
    def dismiss(self, request: HttpRequest, chosen: Any) -> None:
        """Give the chosen questions up."""
        self.change_one_by_one(request, chosen, self.table().dismiss, "dismissed")
