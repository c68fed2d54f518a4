"""The admin's pages: what became of each row, filters by the same rules, buttons, pauses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from buttdial_sync import FailedMessage, InboundMessage
from buttdial_sync.ailoop.questions import questions_schema
from buttdial_sync.contrib.django.admin import summaries
from buttdial_sync.contrib.django.admin.filters import StateFilter
from buttdial_sync.contrib.django.admin.summaries import (
    State,
    summary_of_event,
    summary_of_message,
    summary_of_question,
)
from buttdial_sync.contrib.django.inbox import get_inbox
from buttdial_sync.contrib.django.models import AiloopQuestion, InboxEvent, OutboxMessage
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.inbound.inbox import inbox_schema
from buttdial_sync.retry.rows import COLUMNS
from buttdial_sync.stores.schema import PENDING

pytestmark = pytest.mark.usefixtures("project")

TO = "+14155550123"
LIST = "/admin/buttdial_sync/outboxmessage/"
EVENTS = "/admin/buttdial_sync/inboxevent/"
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    yield
    LogEntry.objects.all().delete()
    OutboxMessage.objects.all().delete()
    get_repository().resume()
    for agent in ("agent-7", ""):
        get_repository().resume(agent)


def client_who(*permissions: str, **options: Any) -> Client:
    user = User.objects.create_user(uuid4().hex, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def http() -> Client:
    return client_who("view_outboxmessage", "change_outboxmessage", "change_inboxevent")


def now() -> datetime:
    return get_repository().store.now()


def add(row_id: str, **fields: Any) -> Any:
    leased_until = fields.pop("leased_until", None)
    get_repository().add(FailedMessage(**{"id": row_id, "recipient": TO, "body": "x", **fields}))
    OutboxMessage.objects.filter(pk=row_id).update(leased_until=leased_until)
    return OutboxMessage.objects.get(pk=row_id)


def tell(row: OutboxMessage) -> summaries.Summary:
    return summary_of_message(row, now(), get_repository().paused())


def text(response: Any) -> str:
    """What a person reads on a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", str(response.content, "utf-8")).split())


def press(http: Client, row_id: str, action: str, address: str = LIST) -> str:
    return text(http.post(f"{address}{row_id}/do/{action}/", follow=True))


def test_a_sent_message() -> None:
    """The server's id, the receipt, and a receipt that says no."""
    done = {"status": "delivered", "message_sid": "SM-42", "resolved_at": now()}
    assert tell(add("a", **done)).text.startswith("Sent as SM-42 on ")
    read = tell(add("b", **{**done, "receipt_status": "read", "receipt_at": now()}))
    assert (read.state.name, "; read on " in read.text) == ("sent", True)
    lost = {"receipt_status": "failed", "receipt_error": "no WhatsApp"}
    summary = tell(add("c", **{**done, **lost}))
    assert summary.state.tone == "bad"
    assert summary.text.endswith("but not delivered: no WhatsApp.")
    without_id = tell(add("d", status="delivered"))
    assert without_id.text == "Sent."


def test_a_message_that_was_given_up() -> None:
    """The reason, the number of attempts, and whether it came too late."""
    over = {"status": "dead", "resolved_at": now()}
    dead = tell(add("a", **over, last_error="no consent", retry_count=1))
    assert dead.state is summaries.DEAD
    assert re.search(r"after 1 attempt: no consent\.$", dead.text)
    late = tell(add("b", **over, expires_at=now() - MINUTE, last_error="too late"))
    assert late.state is summaries.EXPIRED
    assert "after no attempts: too late." in late.text
    doubtful = tell(add("c", status="dismissed", attempt_started_at=now()))
    assert doubtful.text == "A person gave it up; it may have been sent."


def test_a_message_of_which_nobody_knows() -> None:
    """It says so, with the cause once, and what to do."""
    error = "outcome unknown, it may have been sent: the connection broke"
    began = {"attempt_started_at": now() - MINUTE, "last_error": error}
    dead = tell(add("a", **began, status="dead"))
    assert dead.state is summaries.UNKNOWN
    assert re.search(r"^Nobody knows .*; the connection broke\. Find out", dead.text)
    assert "The loop takes it next" in tell(add("b", **began)).text
    later = tell(add("c", **began, next_retry_at=now() + 10 * MINUTE))
    assert "with the same key" in later.text


def test_a_message_that_waits() -> None:
    """For its time, its next attempt, a worker, its agent or everybody's pause."""
    later = now() + timedelta(hours=2, minutes=1)
    assert re.search(r"time: .* \(in 2 hours\)\.$", tell(add("a", next_retry_at=later)).text)
    failed = {"next_retry_at": later, "last_error": "phone off", "attempt_number": 2}
    counted = tell(add("b", **failed, retry_count=2))
    assert counted.state is summaries.WAITING
    assert "number 3 of 5" in counted.text
    assert counted.text.endswith("The last attempt: phone off.")
    spared = tell(add("c", **failed, retry_count=1))
    assert spared.state is summaries.RESTING
    assert "without losing an attempt: phone off." in spared.text
    due = add("d", agent_id="agent-7", last_error="refused")
    assert re.search(r"^Due since .*\. The last attempt: refused\.$|a worker", tell(due).text)
    get_repository().pause("agent-7", reason="wrong price")
    assert re.search(r"^Agent agent-7 is paused since .*: wrong price\.$", tell(due).text)
    get_repository().pause("")
    assert tell(add("e")).text.startswith("What names no agent is paused")
    get_repository().pause()
    assert tell(add("f", agent_id="agent-8")).text.startswith("Everything is paused")


def test_a_message_in_a_workers_hands() -> None:
    """Fetched, or being sent; after the lease nobody knows."""
    until = now() + MINUTE
    assert tell(add("a", leased_until=until)).text == "A worker has it, and sends it next."
    sending = tell(add("b", leased_until=until, attempt_started_at=now()))
    assert sending.text.startswith("An attempt is under way since")
    assert (
        tell(add("c", leased_until=now() - MINUTE, attempt_started_at=now())).state
        is summaries.UNKNOWN
    )


def every_kind() -> Iterator[OutboxMessage]:
    """Rows of every combination of what decides about the state."""
    moments = (None, now() - MINUTE, now() + 10 * MINUTE)
    counts = ((0, 0), (1, 1), (1, 2))
    rows = (
        (status, lease, began, expires, due, counted, error, agent)
        for status in ("pending", "dead", "delivered", "dismissed")
        for lease in (None, *moments[1:])
        for began in moments[:2]
        for expires in moments
        for due in moments[1:]
        for counted in counts
        for error in (None, "refused")
        for agent in (None, "agent-7")
    )
    at = now()
    for number, (status, lease, began, expires, due, counted, error, agent) in enumerate(rows):
        yield OutboxMessage(
            id=f"row-{number}", recipient=TO, body="x", channel="sms", agent_name="",
            agent_token="", status=status, leased_until=lease, attempt_started_at=began,
            expires_at=expires, next_retry_at=due, retry_count=counted[0],
            attempt_number=counted[1], last_error=error, agent_id=agent, max_retries=5,
            created_at=at, resolved_at=None if status == PENDING else at,
        )  # fmt: skip


@pytest.mark.parametrize("paused", [(), ("agent-7",), ("",), (None,)])
def test_filters_find_what_the_page_says(paused: tuple[str | None, ...]) -> None:
    """Each row is found by the filter of its state, and by no other."""
    OutboxMessage.objects.bulk_create(every_kind())
    for agent in paused:
        get_repository().pause(agent)
    told: dict[str, set[str]] = {}
    at, pauses = now(), get_repository().paused()
    for row in OutboxMessage.objects.all():
        told.setdefault(summary_of_message(row, at, pauses).state.name, set()).add(row.pk)
    model_admin = admin.site._registry[OutboxMessage]
    names = [name for name, _ in StateFilter(None, {}, OutboxMessage, model_admin).lookups(None, 0)]
    # Nothing waits while everything is paused.
    assert {"due", "waiting"} - told.keys() == ({"due", "waiting"} if None in paused else set())
    for name in names:
        # A list of one value, as Django gives it from 5.0 on, and 4.2 does not.
        chosen = StateFilter(None, {}, OutboxMessage, model_admin)
        chosen.used_parameters = {"why": name}
        found = chosen.queryset(None, OutboxMessage.objects.all())
        assert {row.pk for row in found} == told.get(name, set()), name


def test_the_filter_in_the_list(http: Client) -> None:
    """It is on the page, and works together with a search."""
    add("due", body="apples")
    add("later", body="apples", next_retry_at=now() + MINUTE)
    page = http.get(LIST, {"why": "due", "q": "apples"})
    assert [row.pk for row in page.context["cl"].result_list] == ["due"]
    assert "At rest: a limit, a pause, an outage" in text(page)
    assert "in progress" in text(http.get(LIST)).lower()


def test_every_column_has_its_place() -> None:
    """What a row has is shown, but for the token."""
    shown = {
        OutboxMessage: set(COLUMNS) - {"agent_token"},
        InboxEvent: set(inbox_schema().names),
        AiloopQuestion: set(questions_schema().names),
    }
    for model, names in shown.items():
        assert set(admin.site._registry[model].fields) == names


def test_the_page_of_a_row(http: Client) -> None:
    """Only fields with a value, no form to save, and nothing that is not escaped."""
    add("a", body="<b>apples</b>", next_retry_at=now() + MINUTE, template_vars={"1": "Sam"})
    page = http.get(f"{LIST}a/change/")
    shown = str(page.content, "utf-8")
    assert "&lt;b&gt;apples&lt;/b&gt;" in shown
    assert "&quot;1&quot;: &quot;Sam&quot;" in shown
    assert "Html" not in shown
    assert "_save" not in shown
    assert "(to come)" in shown
    assert http.post(f"{LIST}a/change/", {"body": "pears"}).status_code == 403
    assert OutboxMessage.objects.get().body == "<b>apples</b>"


def test_a_button_is_in_the_admins_log(http: Client) -> None:
    """What somebody did is in the row's history with the name; what changed nothing is not."""
    add("a", status="dead", last_error="no consent")
    add("b", status="delivered")
    assert "1 queued" in press(http, "a", "retry")
    assert OutboxMessage.objects.get(pk="a").status == "pending"
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == ("a", "asked for: queued")
    assert f"{entry.user}: asked for: queued" in text(http.get(f"{LIST}a/change/"))
    assert "1 dismissed" in press(http, "a", "dismiss")
    assert "0 dismissed" not in press(http, "b", "dismiss")
    assert LogEntry.objects.count() == 2


def test_buttons_are_for_what_can_be_done(http: Client) -> None:
    """None for what is done or in a worker's hands; sending again only where it is certain."""

    def offered(row_id: str) -> list[str]:
        page = http.get(f"{LIST}{row_id}/change/")
        return [button.action for button in page.context["buttons"]]

    add("done", status="delivered")
    add("busy", leased_until=now() + MINUTE)
    add("dead", status="dead")
    add("lost", status="dead", attempt_started_at=now())
    assert offered("done") == offered("busy") == []
    assert offered("dead") == ["retry", "dismiss"]
    assert offered("lost") == ["retry_even_if_sent", "dismiss"]


def test_buttons_need_a_post_the_permission_and_the_csrf_token() -> None:
    """Each of the three is missing once; an action that is not the page's is refused too."""
    add("a", status="dead")
    address = f"{LIST}a/do/retry/"
    may_change = client_who("change_outboxmessage", "delete_outboxmessage")
    assert may_change.get(address).status_code == 405
    assert may_change.post(f"{LIST}a/do/delete_selected/").status_code == 403
    assert may_change.post(f"{LIST}nobody/do/retry/").status_code == 404
    looker = client_who("view_outboxmessage")
    assert looker.post(address).status_code == 403
    assert looker.get(f"{LIST}a/change/").context["buttons"] == []
    strict = client_who("change_outboxmessage", enforce_csrf_checks=True)
    assert strict.post(address).status_code == 403
    assert OutboxMessage.objects.get().status == "dead"
    assert may_change.post(address).status_code == 302
    assert OutboxMessage.objects.get().status == "pending"


def test_pausing_and_resuming(http: Client) -> None:
    """Of an agent, of what names none, and of everything; with a reason, and in the log."""
    row = f"{LIST}{add('a', agent_id='agent-7').pk}/change/"
    assert "Pause its agent" in text(http.get(row))
    asked = http.get(f"{LIST}pause/", {"agent": "agent-7"})
    assert "messages of agent agent-7" in text(asked)
    assert get_repository().paused() == ()
    told = http.post(f"{LIST}pause/", {"agent": "agent-7", "reason": "wrong price"}, follow=True)
    assert "wrong price" in text(told)
    assert [pause.agent_id for pause in get_repository().paused()] == ["agent-7"]
    assert "Resume its agent" in text(http.get(row))
    http.post(f"{LIST}pause/", {"everything": "1"})
    http.post(f"{LIST}pause/", {"agent": ""})
    assert {pause.agent_id for pause in get_repository().paused()} == {"agent-7", None, ""}
    for about in ({"agent": "agent-7"}, {"agent": ""}, {"everything": "1"}):
        http.get(f"{LIST}resume/", about)
        assert "is resumed" in text(http.post(f"{LIST}resume/", about, follow=True))
    assert get_repository().paused() == ()
    assert "agent agent-7 is paused: wrong price" in {
        entry.change_message for entry in LogEntry.objects.all()
    }
    assert LogEntry.objects.count() == 6


def test_pausing_needs_the_permission_and_an_agent(http: Client) -> None:
    """Whoever may only look sees no button; a request about nobody pauses nobody."""
    looker = client_who("view_outboxmessage")
    assert looker.post(f"{LIST}pause/", {"everything": "1"}).status_code == 403
    assert looker.post(f"{LIST}resume/", {"everything": "1"}).status_code == 403
    assert "Pause everything" not in text(looker.get(f"{LIST}dashboard/"))
    assert "Pause everything" in text(http.get(f"{LIST}dashboard/"))
    assert http.post(f"{LIST}pause/").status_code == 400
    assert get_repository().paused() == ()


def test_what_a_due_message_waits_for(http: Client) -> None:
    """An earlier one of its order, and the one of its agent that met the limit."""
    ordered = {"agent_id": "agent-7", "ordering_key": "order-1"}
    later = now() + 5 * MINUTE
    add("first", **ordered, created_at=now() - MINUTE, next_retry_at=later, last_error="limited")
    add("second", **ordered)
    add("scheduled", agent_id="agent-7", next_retry_at=now() + timedelta(days=1))
    notes = http.get(f"{LIST}second/change/").context["notes"]
    assert [address for _, address in notes] == [f"{LIST}first/change/"] * 2
    assert "It waits for an earlier message" in notes[0][0]
    assert re.search("Its agent rests until .*: limited", notes[1][0])
    assert http.get(f"{LIST}first/change/").context["notes"] == []


def test_the_dashboard_links_to_the_lists(http: Client) -> None:
    """Each figure leads to the messages that it counts."""
    add("lost", status="dead", attempt_started_at=now())
    add("due", agent_id="a&b", next_retry_at=now() - MINUTE)
    add("nobody's")
    page = str(http.get(reverse("admin:buttdial_sync_outboxmessage_dashboard")).content, "utf-8")
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)"', page)]
    counted = {
        "?status__exact=dead": ["lost"],
        "?why=unknown": ["lost"],
        "?status__exact=pending&agent_id=a%26b": ["due"],
        "?status__exact=pending&agent_id__isnull=True": ["nobody's"],
    }
    for query, ids in counted.items():
        assert f"{LIST}{query}" in links
        found = http.get(f"{LIST}{query}").context["cl"].result_list
        assert [row.pk for row in found] == ids


def test_the_number_of_questions_to_the_database(http: Client) -> None:
    """It does not grow with the rows, and none reads the whole table."""

    def asked(address: str) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert http.get(address).status_code == 200
        return [each["sql"] for each in captured]

    add("row")
    addresses = (LIST, f"{LIST}?why=due", f"{LIST}row/change/", f"{LIST}dashboard/")
    before = {address: len(asked(address)) for address in addresses}
    get_repository().add_new(
        [FailedMessage(id=f"m{number}", recipient=TO, body="x") for number in range(150)]
    )
    for address, count in before.items():
        statements = asked(address)
        assert len(statements) == count <= 16, statements
        of_rows = [each for each in statements if "outboxmessage" in each and "LIMIT" not in each]
        # One row, by its key.
        assert [each for each in of_rows if '"id" = ' not in each] == []


def test_the_page_of_an_event(http: Client) -> None:
    """Why handlers did not take it, and a button to try again."""
    inbox = get_inbox()
    assert inbox is not None
    inbox.write([InboundMessage(id="m-1", channel="sms", sender=TO, text="Are you open?")])
    stored = inbox.take()
    assert stored is not None
    address = f"{EVENTS}{admin.utils.quote(stored.id)}/"
    busy = http.get(f"{address}change/")
    assert busy.context["summary"].text == "A worker handles it now."
    assert busy.context["buttons"] == []
    assert inbox.mark_dead(stored, "KeyError")
    page = text(http.get(f"{address}change/"))
    assert "Are you open?" in page
    assert "after 1 attempt: KeyError." in page
    assert "1 queued" in text(http.post(f"{address}do/retry/", follow=True))
    assert "Waits for the handlers since" in text(http.get(EVENTS))


def test_events_in_words() -> None:
    """Each state has its sentence."""
    at = now()

    def told(**fields: Any) -> summaries.Summary:
        plain = {"status": "pending", "retry_count": 1, "next_retry_at": at}
        return summary_of_event(InboxEvent(**{**plain, **fields}), at)

    assert told(status="handled", resolved_at=at).state is summaries.HANDLED
    assert told(status="dismissed").text == "A person gave it up."
    failed = told(next_retry_at=at + MINUTE, last_error="KeyError")
    assert failed.text.startswith("The handler failed, and is called again ")
    assert told(last_error="KeyError").text.endswith("The last time: KeyError.")


def test_questions_in_words() -> None:
    """Each state has its sentence."""
    at = now()

    def told(**fields: Any) -> summaries.Summary:
        plain = {"status": "pending", "retry_count": 1, "next_retry_at": at, "expires_at": at}
        return summary_of_question(AiloopQuestion(**{**plain, **fields}), at)

    assert told().state is summaries.UNANSWERED
    assert told(reply="{}").text.startswith("Answered; waits for the project")
    assert told(status="handed_over").text == "The answer was handed over."
    assert told(status="dead", last_error="KeyError").state is summaries.DEAD


@pytest.mark.parametrize("uses_zones", [True, False])
def test_a_row_without_readable_times(http: Client, uses_zones: bool) -> None:
    """A person wrote what is not a time: the pages show the rest."""
    with override_settings(USE_TZ=uses_zones):
        add("a", next_retry_at=now() + MINUTE)
        with connection.cursor() as cursor:
            table = OutboxMessage._meta.db_table
            cursor.execute(f"UPDATE {table} SET created_at = '0', next_retry_at = 'soon'")  # noqa: S608
        assert "due now" in text(http.get(LIST))
        assert "an unknown time" in text(http.get(f"{LIST}a/change/"))


def test_states_are_told_apart_without_colour() -> None:
    """Each badge has words of its own, and a mark for its colour."""
    states = [each for each in vars(summaries).values() if isinstance(each, State)]
    assert len({state.label for state in states}) == len({state.name for state in states})
    marks: dict[str, set[str]] = {}
    for state in states:
        marks.setdefault(state.mark, set()).add(state.tone)
    assert all(len(tones) == 1 for tones in marks.values())
