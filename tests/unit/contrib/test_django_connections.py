"""Which database connections are closed around work in a Django project, and when."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from django.db import connections, transaction
from django.test import override_settings

from buttdial_sync.contrib.django.outbox import enqueue, get_repository, make_retry_loop
from buttdial_sync.contrib.django.store import fresh_connections
from buttdial_sync.retry.report import RetryReport
from buttdial_sync.testing import FakeButtDialServer
from tests.unit.contrib.django_settings import BUTT_DIAL
from tests.unit.contrib.test_django_outbox_conformance import ALIAS, database

SECONDS = 30.0


@pytest.fixture
def on_disk(project: None, tmp_path: Path) -> Iterator[None]:
    """Have the outbox in a file: Django never closes a connection to a database in memory."""
    engine = "django.db.backends.sqlite3"
    configured = override_settings(BUTT_DIAL={**BUTT_DIAL, "OUTBOX": {"using": ALIAS}})
    with database(ENGINE=engine, NAME=str(tmp_path / "outbox.db")), configured:
        yield


@contextmanager
def autocommit_off() -> Iterator[None]:
    transaction.set_autocommit(False, ALIAS)
    yield
    transaction.commit(ALIAS)
    transaction.set_autocommit(True, ALIAS)


def here(work: Callable[[], None]) -> None:
    work()


def in_a_thread(work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SECONDS)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("run", [here, in_a_thread])
@pytest.mark.parametrize("begin", [partial(transaction.atomic, ALIAS), autocommit_off])
def test_a_pass_inside_a_transaction(
    run: Callable[[Callable[[], None]], None],
    begin: Callable[[], AbstractContextManager[object]],
    fake_server: FakeButtDialServer,
) -> None:
    """Nothing is sent, and the host's transaction is committed: closing would roll it back."""
    reports: list[RetryReport] = []

    def work() -> None:
        with begin():
            enqueue("+14155550123", "one")
            reports.append(make_retry_loop().run_once())

    run(work)
    assert [report.errors for report in reports] == [1]
    assert "RuntimeError" in (reports[0].last_error or "")
    assert [message.body for message in get_repository().list()] == ["one"]
    assert fake_server.sent_messages == []


@pytest.mark.usefixtures("on_disk")
def test_a_thread_closes_its_own_once() -> None:
    """The outermost block closes: nobody else could, and within it the host may use them."""
    is_open: list[bool] = []

    def note() -> None:
        is_open.append(connections[ALIAS].connection is not None)

    def work() -> None:
        with fresh_connections():
            with fresh_connections():
                connections[ALIAS].ensure_connection()
            note()
        note()

    in_a_thread(work)
    assert is_open == [True, False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("on_disk")
def test_a_fork_while_a_thread_is_inside() -> None:
    """A thread of the child may get the ident of one that was inside: it is not inside."""
    is_inside, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        with fresh_connections():
            is_inside.set()
            go_on.wait(SECONDS)

    def is_closed() -> bool:
        with fresh_connections():
            connections[ALIAS].ensure_connection()
        return connections[ALIAS].connection is None

    stays = threading.Thread(target=stay)
    stays.start()
    assert is_inside.wait(SECONDS)
    child = os.fork()
    if child == 0:
        signal.alarm(int(SECONDS))
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(is_closed()))
        thread.start()
        thread.join(SECONDS)
        os._exit(0 if answers == [True] else 1)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    stays.join(SECONDS)
