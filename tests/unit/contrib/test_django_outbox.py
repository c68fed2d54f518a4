"""The outbox in a Django project: transactions, the command, the admin page."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from io import StringIO
from types import FrameType
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from buttdial_sync import DeliveryReceipt, FailedMessage
from buttdial_sync.contrib.django import get_client
from buttdial_sync.contrib.django.admin import pages
from buttdial_sync.contrib.django.models import OutboxMessage
from buttdial_sync.contrib.django.outbox import enqueue, get_outbox, get_repository
from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.transport.signals import stopped_by_signals
from tests.unit.contrib.django_settings import BUTT_DIAL

PAGE = "/admin/buttdial_sync/outboxmessage/"
TO = "+14155550123"


@pytest.fixture(autouse=True)
def _empty(project: None) -> Iterator[None]:
    yield
    OutboxMessage.objects.all().delete()


@pytest.fixture
def http() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("buttdial_retry", *arguments, stdout=out)
    return out.getvalue().strip()


def bodies(server: FakeButtDialServer) -> list[str | None]:
    return [message.body for message in server.sent_messages]


def given_up(message: FailedMessage, reason: str) -> None:
    dead.append(reason)


dead: list[str] = []


def test_a_rolled_back_message_is_not_there() -> None:
    """What the host rolls back is neither written nor announced."""
    announced: list[FailedMessage] = []
    with transaction.atomic():
        enqueue(TO, "one", after_commit=announced.append)
        transaction.set_rollback(True)
    assert get_repository().list() == []
    assert announced == []


def test_a_committed_message_is_announced_after_the_commit() -> None:
    """The callback comes once the others can see the row, and what it raises does not matter."""
    announced: list[str] = []

    def announce(message: FailedMessage) -> None:
        announced.append(message.id)
        raise OSError("the broker is down")

    with transaction.atomic():
        message = enqueue(TO, "one", after_commit=announce)
        assert announced == []
    assert announced == [message.id]
    assert get_repository().get(message.id) is not None


def test_eager_tasks_inside_a_transaction(fake_server: FakeButtDialServer) -> None:
    """A row that is not committed is not sent, not even where tasks run at once."""
    celery = pytest.importorskip("celery")
    from buttdial_sync.contrib.celery import ButtDialTasks

    app = celery.Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    tasks = ButtDialTasks(app, client=get_client, repository=get_repository)
    with transaction.atomic():
        early = enqueue(TO, "one")
        tasks.deliver_soon(early)
        assert bodies(fake_server) == []
        enqueue(TO, "two", after_commit=tasks.deliver_soon)
    assert bodies(fake_server) == ["two"]
    tasks.deliver_soon(early)
    assert bodies(fake_server) == ["two", "one"]
    app.close()


def test_sending_inside_a_transaction_is_refused(fake_server: FakeButtDialServer) -> None:
    """A row that might be rolled back is no memory: nothing is sent."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        get_outbox().send_message(TO, "one")
    assert bodies(fake_server) == []


def test_sending_without_autocommit_is_refused(fake_server: FakeButtDialServer) -> None:
    """The row would not be on disk when the message leaves: nothing is sent."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(RuntimeError, match="autocommit is off"):
            get_outbox().send_message(TO, "one")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert bodies(fake_server) == []
    assert get_repository().list() == []


def test_an_attempt_inside_a_transaction_is_refused() -> None:
    """It has to be on disk: neither fetching, beginning, ending nor putting back takes part."""
    repository = get_repository()
    repository.add(FailedMessage(id="a", recipient=TO, body="one"))
    fetched = repository.fetch_due(1)
    calls: list[Callable[[], object]] = [
        lambda: repository.fetch_due(1),
        lambda: repository.begin_attempt("a", 1, datetime.now(timezone.utc)),
        lambda: repository.mark_delivered("a", "SM-1", 0),
        lambda: repository.release(fetched),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            call()
    assert repository.release(fetched) == 1


def test_what_a_person_or_a_receipt_says_is_part_of_a_transaction() -> None:
    """It is undone with the request that said it."""
    repository = get_repository()
    for msg_id in ("a", "b", "c"):
        repository.add(FailedMessage(id=msg_id, recipient=TO, body="one"))
    assert repository.mark_delivered("a", "SM-1", 0)
    before = repository.list()
    with transaction.atomic():
        assert repository.record_receipt(DeliveryReceipt(message_sid="SM-1", status="read"))
        assert repository.force_retry("b")
        assert repository.dismiss("b")
        assert repository.dismiss_all("pending") == 1
        transaction.set_rollback(True)
    assert repository.list() == before


def test_a_taken_id_leaves_the_transaction_usable() -> None:
    """A second message with the same id is refused, and the host goes on."""
    repository = get_repository()
    with transaction.atomic():
        repository.add(FailedMessage(id="a", recipient=TO, body="one"))
        with pytest.raises(ArgumentValueError):
            repository.add(FailedMessage(id="a", recipient=TO, body="two"))
        assert repository.count_pending() == 1


def test_send_message_settles_its_row(fake_server: FakeButtDialServer) -> None:
    """The row of a message that was sent says so."""
    result = get_outbox().send_message(TO, "one")
    (row,) = get_repository().list()
    assert (row.status, row.message_sid) == ("delivered", result.message_sid)


@pytest.mark.parametrize("keep", [False, True])
def test_tokens_are_kept_only_on_demand(keep: bool) -> None:
    """Agent tokens are in the rows only where the settings say so."""
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "OUTBOX": {"keep_tokens": keep}}):
        enqueue(TO, "one", agent_id="a-2", agent_token="secret")
    assert OutboxMessage.objects.get().agent_token == ("secret" if keep else "")


def test_once_and_drain(fake_server: FakeButtDialServer) -> None:
    """One batch, or all that is due; the command says what it did."""
    for number in range(3):
        enqueue(TO, str(number))
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "RETRY": {"batch_size": 1}}):
        assert run("--once").startswith("1 delivered, 0 retried")
        assert run("--drain").startswith("2 delivered")
    assert bodies(fake_server) == ["0", "1", "2"]


def test_a_drain_ends_as_that_of_the_command_line(fake_server: FakeButtDialServer) -> None:
    """What was not sent has the exit code of ``outbox drain``, and the remedy of a wrong token."""
    enqueue(TO, "one")
    fake_server.revoke("agent-token")
    with pytest.raises(CommandError, match=r"not everything was sent: .*\n  -> ") as failure:
        run("--drain")
    assert failure.value.returncode == 1
    assert bodies(fake_server) == []


def test_told_to_end_twice() -> None:
    """The first signal stops what runs, in another thread; the second ends the process."""
    stopped = threading.Event()
    with stopped_by_signals(stopped.set):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(5)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_signal_before_the_loop_begins(fake_server: FakeButtDialServer) -> None:
    """The command ends all the same: here while it waits a minute to send the second message."""

    def before_draining(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is RetryLoop.drain.__code__:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGTERM)
            for thread in threading.enumerate():
                if thread.name == "buttdial-sync-stop":
                    thread.join(0.5)  # it has stopped once by then, with nothing to stop

    enqueue(TO, "one")
    enqueue(TO, "two")
    sys.setprofile(before_draining)
    try:
        slow = override_settings(BUTT_DIAL={**BUTT_DIAL, "RETRY": {"rate": 1}})
        with slow, suppress(CommandError):  # it says that not everything was sent
            run("--drain")
    finally:
        sys.setprofile(None)
    assert "two" not in bodies(fake_server)


# Django keeps a thread's connection to a database in memory, which this test's loop leaves behind.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*sqlite3")
def test_it_runs_until_told_to_end(fake_server: FakeButtDialServer) -> None:
    """SIGTERM ends the loop after the message that is being sent, which is settled."""

    def end(_: Any) -> dict[str, str]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {"messageId": "SM-1"}

    fake_server.on_tool("comms_send_message", end)
    enqueue(TO, "one")
    assert run("--interval", "600") == ""
    assert get_repository().list()[0].status == "delivered"
    gc.collect()


def leave(_message: FailedMessage, _reason: str) -> None:
    sys.exit("no")


@pytest.mark.filterwarnings("ignore:Exception ignored in.*sqlite3")
def test_a_loop_that_ends_by_itself(
    fake_server: FakeButtDialServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The command fails, so that whoever watches over the process starts another."""
    fake_server.on_send(error="no consent", code="NO_CONSENT")
    get_repository().add(FailedMessage(id="a", recipient=TO, body="one", max_retries=1))
    path = f"{__name__}.leave"
    configured = override_settings(BUTT_DIAL={**BUTT_DIAL, "RETRY": {"on_dead_letter": path}})
    with configured, pytest.raises(CommandError, match="the loop has ended") as failure:
        run("--interval", "600")
    assert failure.value.returncode == 1
    assert "the retry loop has ended" in caplog.text
    gc.collect()


def test_a_hook_named_in_the_settings(fake_server: FakeButtDialServer) -> None:
    """RETRY takes functions by their dotted paths."""
    dead.clear()
    fake_server.on_send(error="no consent", code="NO_CONSENT")
    get_repository().add(FailedMessage(id="a", recipient=TO, body="one", max_retries=1))
    path = f"{__name__}.given_up"
    configured = override_settings(BUTT_DIAL={**BUTT_DIAL, "RETRY": {"on_dead_letter": path}})
    with configured, pytest.raises(CommandError):
        run("--drain")
    assert len(dead) == 1


def test_the_first_attempt_goes_by_the_settings_too(fake_server: FakeButtDialServer) -> None:
    """RETRY's hook hears of what send_message gives up; what only a loop knows is left out."""
    dead.clear()
    retry = {"on_dead_letter": f"{__name__}.given_up", "on_unknown": "retry", "workers": 2}
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "RETRY": retry}):
        fake_server.on_send(error="no consent", code="NO_CONSENT")
        assert not get_outbox().send_message(TO, "one").queued
    assert dead == ["no consent"]


def test_a_lease_that_is_too_short() -> None:
    """A lease within the client's timeout is told when the command starts, with exit code 2."""
    with (
        override_settings(BUTT_DIAL={**BUTT_DIAL, "OUTBOX": {"lease": 1.0}}),
        pytest.raises(CommandError, match="lease") as failure,
    ):
        run("--once")
    assert failure.value.returncode == 2


def test_the_page_lists_searches_and_filters(http: Client) -> None:
    """The page finds messages by their text and status, and shows a row without its token."""
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "OUTBOX": {"keep_tokens": True}}):
        message = enqueue(TO, "about the apples", agent_id="a-2", agent_token="agent-secret")
        enqueue("+14155550199", "about the pears")
    assert http.get(PAGE, {"q": "apples"}).context["cl"].result_count == 1
    assert http.get(PAGE, {"status__exact": "dead"}).context["cl"].result_count == 0
    shown = http.get(f"{PAGE}{message.id}/change/")
    assert b"about the apples" in shown.content
    assert b"agent-secret" not in shown.content
    assert http.get(f"{PAGE}add/").status_code == 403


def act(http: Client, action: str, *ids: str) -> str:
    chosen = {"action": action, "_selected_action": list(ids)}
    return str(http.post(PAGE, chosen, follow=True).content, "utf-8")


def test_the_page_retries_and_dismisses(http: Client) -> None:
    """The actions do what the repository allows, and say what it did not."""
    repository = get_repository()
    for msg_id in ("a", "b"):
        repository.add(FailedMessage(id=msg_id, recipient=TO, body="x", status="dead"))
    repository.add(FailedMessage(id="c", recipient=TO, body="x", status="delivered"))
    assert "1 queued" in act(http, "retry", "a")
    told = act(http, "dismiss", "b", "c")
    assert "1 dismissed" in told
    assert "1 not" in told
    rows = {row.id: row.status for row in repository.list()}
    assert rows == {"a": "pending", "b": "dismissed", "c": "delivered"}


def test_the_page_does_not_read_all_rows(http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question to the table ends at a limit, and so does what "select all" selects."""
    monkeypatch.setattr(pages, "MOST", 120)  # more than a page has
    get_repository().add_new(
        [FailedMessage(id=f"m{number}", recipient=TO, body="x") for number in range(150)]
    )
    with CaptureQueriesContext(connection) as captured:
        page = http.get(PAGE, {"status__exact": "pending", "channel": "whatsapp"})
    asked = [each["sql"] for each in captured if "outboxmessage" in each["sql"]]
    assert asked
    assert [sql for sql in asked if "LIMIT" not in sql] == []
    assert page.context["cl"].result_count == 120
    assert http.get(PAGE, {"channel": "sms"}).context["cl"].result_count == 0
    chosen = {"action": "dismiss", "_selected_action": ["m0"], "select_across": "1"}
    assert "120 dismissed" in str(http.post(PAGE, chosen, follow=True).content, "utf-8")


def test_the_dashboard(http: Client) -> None:
    """It says whether messages flow, for which agents they wait, and why."""
    page = reverse("admin:buttdial_sync_outboxmessage_dashboard")
    assert page in str(http.get(PAGE).content, "utf-8")
    assert "Nothing is due" in str(http.get(page).content, "utf-8")
    long_ago = datetime(2026, 1, 1, tzinfo=timezone.utc)
    get_repository().add(
        FailedMessage(
            id="a",
            recipient=TO,
            body="secret text",
            agent_id="agent-7",
            next_retry_at=long_ago,
            last_error="connection <refused>",
        )
    )
    get_repository().pause("agent-9", reason="asked for it")
    shown = str(http.get(page).content, "utf-8")
    assert "agent-9 is paused" in shown
    assert "asked for it" in shown
    assert "none was sent in the last minute" in shown
    assert "agent-7" in shown
    assert "connection &lt;refused&gt;" in shown
    assert "secret text" not in shown


def test_the_dashboard_is_for_who_may_see_messages() -> None:
    """Staff without the permission is refused."""
    page = reverse("admin:buttdial_sync_outboxmessage_dashboard")
    assert client_who(is_staff=True).get(page).status_code == 403


def client_who(*permissions: str, **fields: Any) -> Client:
    user = User.objects.create_user("somebody", **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def looker() -> Client:
    """A member of the staff who may only look, at a row with a token."""
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "OUTBOX": {"keep_tokens": True}}):
        enqueue(TO, "one", agent_id="a-2", agent_token="agent-secret")
    return client_who("view_outboxmessage", is_staff=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("lookup", "value"),
    [
        ("agent_token", "agent-secret"),
        ("agent_token__exact", "agent-secret"),
        ("agent_token__regex", "^a"),
        ("agent_token__startswith", "a"),
        ("agent_token__gt", "a"),
        ("agent_token__isnull", "False"),
        ("_to_field", "agent_token"),
    ],
)
def test_no_filter_reads_the_token(
    lookup: str, value: str, looker: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter by the token is 400 whether or not it is right, so that nobody guesses it."""
    assert looker.get(PAGE, {lookup: value}).status_code == 400
    assert "agent-secret" not in caplog.text


def test_the_token_neither_sorts_nor_is_found(looker: Client) -> None:
    """No column sorts by it, the search does not look there, and other filters still work."""
    columns = range(len(looker.get(PAGE).context["cl"].list_display) + 1)
    for order in ("agent_token", *map(str, columns), *(f"-{column}" for column in columns)):
        ordered = looker.get(PAGE, {"o": order}).context["cl"].queryset.query.order_by
        assert not any("agent_token" in str(each) for each in ordered)
    assert looker.get(PAGE, {"q": "agent-secret"}).context["cl"].result_count == 0
    assert looker.get(PAGE, {"recipient__startswith": TO}).context["cl"].result_count == 1


@pytest.mark.parametrize(
    ("user", "status"),
    [({"is_staff": True}, 403), ({}, 302), ({"is_staff": True, "is_superuser": True}, 400)],
    ids=["staff without permissions", "no staff", "superuser"],
)
def test_the_token_is_closed_to_all(user: dict[str, Any], status: int) -> None:
    """Whoever may not look does not come that far, and a superuser has no use for it."""
    assert client_who(**user).get(PAGE, {"agent_token__regex": "^a"}).status_code == status
    assert Client().get(PAGE, {"agent_token__regex": "^a"}).status_code == 302


def test_the_actions_need_the_permission(looker: Client) -> None:
    """Staff that may only look has no actions."""
    OutboxMessage.objects.update(status="dead")
    act(looker, "retry", OutboxMessage.objects.get().id)
    assert OutboxMessage.objects.get().status == "dead"


def test_the_page_does_not_send_twice(http: Client) -> None:
    """What may have been sent is left alone and said; another action sends it all the same."""
    repository = get_repository()
    began = datetime(2026, 3, 1, tzinfo=timezone.utc)
    for msg_id, unknown in (("certain", False), ("lost", True)):
        repository.add(FailedMessage(id=msg_id, recipient=TO, body="x"))
        assert repository.begin_attempt(msg_id, 1, began)
        repository.mark_dead(msg_id, 1, "no answer", unknown)
    told = act(http, "retry", "certain", "lost")
    assert "1 queued" in told
    assert "1 not queued: the outcome of the last attempt is unknown" in told
    assert {row.id: row.status for row in repository.list()} == {
        "certain": "pending",
        "lost": "dead",
    }
    assert "1 queued" in act(http, "retry_even_if_sent", "lost")
    row = repository.get("lost")
    assert row is not None
    assert (row.status, row.attempt_started_at) == ("pending", None)


def test_purging() -> None:
    """What was resolved longer ago than the setting says is deleted; dead letters on demand."""

    def purge(*arguments: str) -> str:
        out = StringIO()
        call_command("buttdial_purge", *arguments, stdout=out)
        return out.getvalue().strip()

    def deleted(count: int) -> str:
        return f"{count} outgoing messages, 0 questions and 0 incoming events deleted"

    repository = get_repository()
    for msg_id in ("delivered", "dead", "pending"):
        repository.add(FailedMessage(id=msg_id, recipient=TO, body="x"))
    repository.mark_delivered("delivered", None, 0)
    repository.mark_dead("dead", 0, "no")
    OutboxMessage.objects.filter(pk="delivered").update(
        resolved_at=repository.store.now() - timedelta(days=31)
    )
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "RETENTION_DAYS": 32}):
        assert purge() == deleted(0)
    assert purge() == deleted(1)
    OutboxMessage.objects.filter(pk="dead").update(
        resolved_at=repository.store.now() - timedelta(days=2)
    )
    assert purge("--days", "1") == deleted(0)
    assert purge("--days", "1", "--dead") == deleted(1)
    with pytest.raises(CommandError, match="positive"):
        purge("--days", "0")
    assert repository.stats()["pending"] == 1
