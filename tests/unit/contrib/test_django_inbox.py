"""The inbox in a Django project: by default, in webhooks, in the admin page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client, override_settings

from buttdial_sync.contrib.django import signals
from buttdial_sync.contrib.django.inbox import DatabaseInbox, get_inbox
from buttdial_sync.contrib.django.models import InboxEvent
from buttdial_sync.models.inbound import InboundEvent, InboundMessage
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.conformance import Clock
from tests.unit.contrib.django_settings import BUTT_DIAL
from tests.unit.contrib.test_django_outbox_conformance import (  # noqa: F401 - fixtures
    ALIAS,
    on_postgresql,
    on_sqlite,
)
from tests.unit.inbound.inbox_conformance import InboxConformance

PAGE = "/admin/buttdial_sync/inboxevent/"
undelivered: list[InboundEvent] = []


def keep(event: InboundEvent) -> None:
    undelivered.append(event)


class OverDjango(InboxConformance):
    def make_inbox(self, clock: Clock, lease: float) -> DatabaseInbox:
        InboxEvent.objects.using(ALIAS).all().delete()
        return DatabaseInbox(using=ALIAS, clock=clock, lease=lease)


@pytest.mark.usefixtures("on_sqlite")
class TestSQLite(OverDjango):
    pass


@pytest.mark.usefixtures("on_postgresql")
class TestPostgreSQL(OverDjango):
    def test_the_clock_is_the_databases(self) -> None:
        """An event is written and taken by one clock, whatever the machines' say."""
        inbox = DatabaseInbox(using=ALIAS)
        inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (told,) = cursor.fetchone()
        (stored,) = inbox.list()
        assert stored.created_at is not None
        assert stored.created_at <= told
        assert inbox.take() is not None


@pytest.fixture
def empty(project: None) -> Iterator[None]:
    undelivered.clear()
    yield
    InboxEvent.objects.all().delete()


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


class Receiver:
    """A receiver of messages that may fail."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.fails = False

    def __call__(self, *, event: Any, **_: Any) -> None:
        self.got.append(event.text)
        if self.fails:
            raise RuntimeError("the host's fault")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    signals.message_received.connect(made)
    yield made
    signals.message_received.disconnect(made)


@pytest.mark.usefixtures("empty")
def test_what_fails_waits_in_the_inbox(fake_server: FakeButtDialServer, receiver: Receiver) -> None:
    """It is tried again by the next poll, and rests after a minute: ON_UNDELIVERED is told then."""
    receiver.fails = True
    fake_server.add_waiting(body="one", externalId="x1")
    keeping = {**BUTT_DIAL, "ON_UNDELIVERED": f"{__name__}.keep"}
    with override_settings(BUTT_DIAL=keeping):
        assert run("buttdial_poll") == "0 handed over"
        row = InboxEvent.objects.get()
        assert (row.status, row.sender, undelivered) == ("pending", "+15551112222", [])
        # Once, or more often where half a second has passed before the poll ends.
        assert receiver.got == ["one"] * row.retry_count
        earlier = row.created_at - timedelta(minutes=2)
        InboxEvent.objects.update(first_failed_at=earlier, next_retry_at=earlier)
        assert run("buttdial_poll") == "0 handed over"
    assert [getattr(event, "text", None) for event in undelivered] == ["one"]
    assert InboxEvent.objects.get().status == "dead"


@pytest.mark.usefixtures("empty")
def test_a_deferred_webhook(fake_server: FakeButtDialServer, receiver: Receiver) -> None:
    """It is stored in the request's transaction; a poll, or a listener, hands it over."""
    body = {"messageId": "m1", "channel": "sms", "from": "+1", "to": "+2", "body": "Hello"}
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "DEFERRED": True}):
        for stored in (1, 0):
            answer = Client().post("/hooks/butt-dial/", json.dumps(body), "application/json")
            assert (answer.status_code, answer.json()["stored"]) == (200, stored)
        assert receiver.got == []
        assert run("buttdial_poll") == "1 handed over"
    assert receiver.got == ["Hello"]


@pytest.mark.usefixtures("empty")
def test_the_admin_page(receiver: Receiver) -> None:
    """Dead letters are listed, handled again and dismissed; nothing is added or edited."""
    inbox = get_inbox()
    assert inbox is not None
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms", text="apples")])
    stored = inbox.take()
    assert stored is not None
    inbox.mark_dead(stored, "a handler failed")
    http = Client()
    http.force_login(User.objects.create_superuser("inbox-root"))
    try:
        assert http.get(PAGE, {"q": "apples"}).context["cl"].result_count == 1
        assert http.get(f"{PAGE}{stored.id}/change/").status_code == 200
        assert http.get(f"{PAGE}add/").status_code == 403
        chosen = {"_selected_action": [stored.id]}
        said = http.post(PAGE, {**chosen, "action": "retry"}, follow=True)
        assert "1 queued" in str(said.content, "utf-8")
        assert inbox.count_pending() == 1
        said = http.post(PAGE, {**chosen, "action": "dismiss"}, follow=True)
        assert "1 dismissed" in str(said.content, "utf-8")
        assert inbox.stats()["dismissed"] == 1
    finally:
        User.objects.all().delete()


@pytest.mark.usefixtures("empty")
def test_purging() -> None:
    """What was handled long ago goes."""
    inbox = get_inbox()
    assert inbox is not None
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    stored = inbox.take()
    assert stored is not None
    inbox.mark_handled(stored)
    InboxEvent.objects.update(resolved_at=inbox.store.now() - timedelta(days=31))
    assert run("buttdial_purge").endswith("and 1 incoming events deleted")


@pytest.mark.usefixtures("empty")
def test_taking_inside_a_transaction_is_refused() -> None:
    """A claim that the host may roll back is none: another process would have the event, too."""
    inbox = get_inbox()
    assert inbox is not None
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        inbox.take()


@pytest.mark.usefixtures("empty")
def test_it_can_be_switched_off(fake_server: FakeButtDialServer, receiver: Receiver) -> None:
    """Then what comes in is in memory only; the lease of the handlers is the inbox's too."""
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "INBOX": False}):
        assert get_inbox() is None
        fake_server.add_waiting(body="one", externalId="x1")
        assert run("buttdial_poll") == "1 handed over"
    assert not InboxEvent.objects.exists()
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "LEASE": 500.0}):
        inbox = get_inbox()
        assert inbox is not None
        assert inbox.lease == 500.0
