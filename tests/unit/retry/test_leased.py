"""A repository with the four published methods, under a loop that needs leases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ClientClosedError, ConfigError
from buttdial_sync.retry import LeasedRepository
from buttdial_sync.retry.leased import _as_message
from buttdial_sync.testing.conformance import SettableClock
from tests.unit.retry.world import World

LEASE = 300.0
PATIENCE = 30.0


@dataclass
class HostMessage:
    """A row as the host's own class has it."""

    id: str
    recipient: str | None
    body: str
    next_retry_at: datetime
    channel: str = "sms"
    agent_name: str = ""
    agent_token: str = ""
    thread_id: str | None = None
    entity_id: str | None = None
    reply_msg_id: str | None = None
    retry_count: int = 0
    max_retries: int = 5
    last_error: str | None = None
    status: str = "pending"
    message_sid: str | None = None


class HostRepository:
    """The four methods over a table of the host's, without any lease."""

    def __init__(self, clock: SettableClock) -> None:
        self.clock = clock
        self.rows: dict[str, HostMessage] = {}
        self.fails: set[str] = set()
        self.asked: list[int] = []

    def add(self, msg_id: str = "a", recipient: str | None = "+14155550123", **more: Any) -> None:
        row = HostMessage(msg_id, recipient, msg_id, self.clock(), **more)
        self.rows[msg_id] = row

    def fetch_due(self, limit: int) -> Sequence[HostMessage]:
        self.asked.append(limit)
        due = [
            row
            for row in self.rows.values()
            if row.status == "pending" and row.next_retry_at <= self.clock()
        ]
        return sorted(due, key=lambda row: row.next_retry_at)[:limit]

    def mark_delivered(self, msg_id: str, message_sid: str, retry_count: int) -> None:
        self._change("mark_delivered", msg_id, retry_count, status="delivered", sid=message_sid)

    def increment_retry(
        self, msg_id: str, retry_count: int, error: str, next_retry_at: datetime
    ) -> None:
        self._change("increment_retry", msg_id, retry_count, error=error, due=next_retry_at)

    def mark_dead(self, msg_id: str, retry_count: int, error: str) -> None:
        self._change("mark_dead", msg_id, retry_count, status="dead", error=error)

    def _change(
        self,
        method: str,
        msg_id: str,
        retry_count: int,
        *,
        status: str = "pending",
        error: str | None = None,
        sid: str | None = None,
        due: datetime | None = None,
    ) -> None:
        if method in self.fails:
            raise OSError("the host's database is away")
        row = self.rows[msg_id]
        row.retry_count, row.status, row.last_error = retry_count, status, error
        row.message_sid, row.next_retry_at = sid, due or row.next_retry_at


@pytest.fixture
def host(here: World) -> HostRepository:
    return HostRepository(here.clock)


@pytest.fixture(params=["memory", "sqlite", "sqlalchemy"])
def leased(
    request: pytest.FixtureRequest, here: World, host: HostRepository, tmp_path: Path
) -> Iterator[LeasedRepository]:
    if request.param == "sqlalchemy":
        sqlalchemy = pytest.importorskip("sqlalchemy")
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'host.db'}")
        with LeasedRepository(host, engine=engine, lease=LEASE, clock=here.clock) as made:
            made.create_table()
            made.create_table()
            yield made
        engine.dispose()
        return
    path = tmp_path / "leases.db" if request.param == "sqlite" else None
    with LeasedRepository(host, path=path, lease=LEASE, clock=here.clock) as made:
        yield made


def on_file(host: HostRepository, tmp_path: Path) -> LeasedRepository:
    """Return what a process of its own would open."""
    return LeasedRepository(host, path=tmp_path / "leases.db", lease=LEASE, clock=host.clock)


def test_due_messages_are_sent(here: World, host: HostRepository, leased: LeasedRepository) -> None:
    """What the host's table has is sent once, with what its row says, and recorded there."""
    host.add("a", thread_id="thread-1", agent_name="Maya", agent_token="token-of-maya")
    host.add("b")
    here.fake.on_send(sid="SM-1")
    report = here.loop(leased).run_once()
    assert (report.fetched, report.delivered, report.errors) == (2, 2, 0)
    first, second = here.fake.delivered
    assert (first.thread_id, first.token, first.channel) == ("thread-1", "token-of-maya", "sms")
    assert (first.args["senderName"], second.token) == ("Maya", "good-token")
    assert (host.rows["a"].status, host.rows["a"].message_sid) == ("delivered", "SM-1")
    assert here.loop(leased).run_once().fetched == 0


def test_failures_go_into_the_hosts_rows(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """A failed attempt is counted and has its next time; the last one makes the row dead."""
    host.add("a", max_retries=2)
    here.fake.on_send(error="try later", count=2)
    here.loop(leased).run_once()
    row = host.rows["a"]
    assert (row.status, row.retry_count, row.last_error) == ("pending", 1, "try later")
    assert row.next_retry_at == here.clock() + timedelta(minutes=2)
    assert here.loop(leased).run_once().fetched == 0
    here.go_on(120)
    told: list[str] = []
    here.loop(leased, on_dead_letter=lambda message, _: told.append(message.id)).run_once()
    assert (row.status, row.retry_count, told) == ("dead", 2, ["a"])


def test_a_limit_costs_no_attempt(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """A message that meets a limit is put back with the count that it had."""
    host.add("a", retry_count=1, last_error="before")
    here.fake.on_send(error="Rate limit exceeded: per-minute. Resets in up to 60 seconds.")
    here.loop(leased).run_once()
    row = host.rows["a"]
    assert (row.status, row.retry_count) == ("pending", 1)
    assert str(row.last_error).startswith("Rate limit exceeded")
    assert row.next_retry_at >= here.clock() + timedelta(seconds=59)
    here.go_on(120)
    assert here.loop(leased).run_once().delivered == 1
    assert row.retry_count == 2


def test_what_may_not_be_sent_now(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """Messages behind a limit are put back one by one, with the reason, and cost no attempt."""
    for msg_id in ("a", "b", "c"):
        host.add(msg_id)
    here.fake.on_send(error="Rate limit exceeded: per-minute. Resets in up to 60 seconds.")
    report = here.loop(leased).run_once()
    assert (report.postponed, report.errors, len(here.fake.sent_messages)) == (3, 0, 1)
    for row in host.rows.values():
        assert (row.status, row.retry_count) == ("pending", 0)
        assert str(row.last_error).startswith("Rate limit exceeded")
        assert row.next_retry_at == here.clock() + timedelta(seconds=60)


@pytest.mark.parametrize(("before", "kept"), [("before", "before"), (None, "")])
def test_put_off_without_a_reason(
    here: World, host: HostRepository, leased: LeasedRepository, before: str | None, kept: str
) -> None:
    """The host's method wants a text: it is the one that was there, or an empty one."""
    host.add("a", last_error=before)
    (fetched,) = leased.fetch_due(1)
    later = here.clock() + timedelta(minutes=2)
    assert leased.postpone(fetched, 0, None, later, attempt_number=0)
    assert (host.rows["a"].last_error, host.rows["a"].next_retry_at) == (kept, later)


def test_an_end_that_is_certain(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """What was refused was not sent: whoever gets it again finds no doubt."""
    for msg_id in ("retried", "dead"):
        host.add(msg_id)
    leased.fetch_due(2)
    for msg_id in ("retried", "dead"):
        assert leased.begin_attempt(msg_id, 1, here.clock())
    assert leased.increment_retry("retried", 1, "no", here.clock())
    assert leased.mark_dead("dead", 1, "no")
    host.rows["dead"].status = "pending"
    here.go_on(2)
    assert [message.attempt_started_at for message in leased.fetch_due(2)] == [None, None]


def test_nobody_gets_what_another_has(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """A leased message is not fetched again before its end; what comes after it is."""
    host.add("a")
    host.add("b")
    assert [message.id for message in leased.fetch_due(1)] == ["a"]
    assert [message.id for message in leased.fetch_due(1)] == ["b"]
    assert leased.fetch_due(1) == []
    assert host.asked == [1, 2, 3]
    host.rows["a"].next_retry_at += timedelta(days=1)
    host.add("c")
    host.add("d")
    assert [message.id for message in leased.fetch_due(1)] == ["c"]
    host.rows["a"].next_retry_at -= timedelta(days=1)
    here.go_on(LEASE)
    assert [message.id for message in leased.fetch_due(5)] == ["a", "b", "c", "d"]


def test_an_unknown_outcome_is_remembered(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """The host's row has no place for it, ours has; and times without a zone are UTC."""
    host.add("a")
    leased.fetch_due(1)
    began = here.clock()
    assert leased.begin_attempt("a", 1, began)
    here.go_on(1)
    assert leased.increment_retry("a", 1, "lost", here.clock(), unknown=True)
    here.go_on(2)
    due = host.rows["a"].next_retry_at
    again = leased.fetch_due(1)[0]
    assert (again.attempt_started_at, again.retry_count) == (began, 1)
    host.rows["a"].next_retry_at = due.replace(tzinfo=None)
    assert _as_message(host.rows["a"]).next_retry_at == due


def test_threads_share_the_messages(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """Threads that fetch at once get each message once."""
    for number in range(12):
        host.add(f"m{number:02}")
    got: list[str] = []
    barrier = threading.Barrier(4)

    def fetch() -> None:
        barrier.wait(PATIENCE)
        for _ in range(12):
            got.extend(message.id for message in leased.fetch_due(2))

    threads = [threading.Thread(target=fetch, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == sorted(host.rows)


def test_a_second_attempt_is_fenced(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """Who lost a message to another can neither begin nor settle it."""
    host.add("a")
    (late,) = leased.fetch_due(1)
    here.go_on(LEASE)
    (taken,) = leased.fetch_due(1)
    assert leased.begin_attempt("a", 1, here.clock(), attempt_number=1)
    assert not leased.begin_attempt("a", 1, here.clock(), attempt_number=1)
    here.go_on(LEASE)
    assert leased.fetch_due(1)[0].attempt_number == 1
    assert leased.begin_attempt("a", 2, here.clock(), attempt_number=2)
    before = vars(host.rows["a"]).copy()
    later = here.clock() + timedelta(minutes=1)
    assert not leased.increment_retry("a", 1, "late", later, attempt_number=1)
    assert not leased.mark_dead("a", 1, "late", attempt_number=1)
    assert not leased.postpone(late, 0, "late", later, attempt_number=0)
    assert vars(host.rows["a"]) == before
    assert (taken.attempt_number, taken.attempt_started_at) == (0, None)


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_killed_while_sending(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A message whose sender died after it left may have been sent.

    It is repeated under the same key where the server knows keys, and given up elsewhere.
    """
    here: World = request.getfixturevalue("here" if dialect == "hosted" else "open_source")
    host = HostRepository(here.clock)
    host.add("a")
    with closing(on_file(host, tmp_path)) as first:
        monkeypatch.setattr(first, "mark_delivered", killed)
        with pytest.raises(Killed):
            here.loop(first).run_once()
    assert len(here.bodies) == 1
    here.go_on(LEASE)
    with closing(on_file(host, tmp_path)) as second:
        report = here.loop(second).run_once()
    row = host.rows["a"]
    if dialect == "hosted":
        assert (report.delivered, row.status, row.retry_count) == (1, "delivered", 2)
        assert len({call.args["idempotencyKey"] for call in here.fake.sent_messages}) == 1
    else:
        assert (report.dead, row.status) == (1, "dead")
        assert "may have been sent" in str(row.last_error)
    assert here.bodies == ["a"]


def test_killed_before_the_host_was_told(
    here: World, host: HostRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was delivered, and that the host's table still has as due, is not sent."""
    host.add("a")
    monkeypatch.setattr(host, "mark_delivered", killed)
    here.fake.on_send(sid="SM-1")
    with closing(on_file(host, tmp_path)) as first, pytest.raises(Killed):
        here.loop(first).run_once()
    monkeypatch.undo()
    assert host.rows["a"].status == "pending"
    with closing(on_file(host, tmp_path)) as second:
        assert here.loop(second).run_once().fetched == 0
    assert (host.rows["a"].status, here.bodies) == ("delivered", ["a"])
    assert host.rows["a"].message_sid == "SM-1"


def test_the_hosts_database_fails(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """An end that the host's table does not take is tried again, and then caught up."""
    host.add("a")
    host.fails = {"mark_delivered"}

    def comes_back(seconds: float) -> None:
        here.sleep(seconds)
        host.fails = set()

    report = here.loop(leased, sleep=comes_back).run_once()
    assert (report.delivered, host.rows["a"].status) == (1, "delivered")
    host.add("b")
    host.fails = {"mark_delivered"}
    assert here.loop(leased).run_once().errors == 1
    host.add("c")  # the others need not wait for it
    host.fails = {"mark_delivered"}
    here.go_on(LEASE)
    assert [message.id for message in leased.fetch_due(5)] == ["c"]
    host.fails = set()
    leased.fetch_due(5)
    assert (host.rows["b"].status, here.bodies) == ("delivered", ["a", "b"])


@pytest.mark.parametrize(("sid", "told"), [(None, ""), ("SM-1", "SM-1"), ("x" * 300, "x" * 255)])
def test_the_id_that_the_host_is_told_later(
    here: World, host: HostRepository, leased: LeasedRepository, sid: str | None, told: str
) -> None:
    """That of the server, as far as columns hold it; empty if the server gave none."""
    host.add("a")
    leased.fetch_due(1)
    assert leased.begin_attempt("a", 1, here.clock())
    host.fails = {"mark_delivered"}
    with pytest.raises(OSError, match="database is away"):
        leased.mark_delivered("a", sid, 1)
    host.fails = set()
    assert leased.fetch_due(1) == []
    assert (host.rows["a"].status, host.rows["a"].message_sid) == ("delivered", told)


def test_revived_by_the_host(here: World, host: HostRepository, leased: LeasedRepository) -> None:
    """A dead row that a person makes due in the host's table gets one more attempt at least."""
    host.add("a", max_retries=1)
    here.fake.on_send(error="no")
    here.loop(leased).run_once()
    assert host.rows["a"].status == "dead"
    row = host.rows["a"]
    for attempts in (1, 0):  # with the count that it had, and as if it were new
        row.status, row.retry_count = "pending", attempts
        here.go_on(1)
        here.fake.on_send(error="no")
        here.loop(leased).run_once()
        assert (row.status, row.retry_count) == ("dead", attempts + 1)
    row.status = "pending"
    here.go_on(1)
    assert here.loop(leased).run_once().delivered == 1
    assert row.status == "delivered"


@pytest.mark.parametrize("end", ["retried", "dead", "put back"])
def test_a_stale_answer_of_the_host(
    end: str,
    here: World,
    host: HostRepository,
    leased: LeasedRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asked the host's table before a message was settled does not get it."""
    host.add("a")
    ours = leased.fetch_due(1)[0]
    stale = list(host.fetch_due(1))

    def settle_meanwhile(_: int) -> Sequence[HostMessage]:
        later = here.clock() + timedelta(minutes=2)
        if end == "put back":
            assert leased.postpone(ours, 0, None, here.clock(), attempt_number=0)
        else:
            assert leased.begin_attempt("a", 1, here.clock(), attempt_number=1)
        if end == "retried":
            assert leased.increment_retry("a", 1, "no", later, attempt_number=1)
        elif end == "dead":
            assert leased.mark_dead("a", 1, "no", attempt_number=1)
        here.go_on(2)  # what the host's table said takes its time to arrive
        return stale

    monkeypatch.setattr(host, "fetch_due", settle_meanwhile)
    assert leased.fetch_due(1) == []
    monkeypatch.undo()
    here.go_on(2)
    assert len(leased.fetch_due(1)) == (end == "put back")


def test_a_late_end_is_believed(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """An attempt that outlived its lease says that nothing was sent: nobody gives it up as lost."""
    host.add("a")
    leased.fetch_due(1)
    assert leased.begin_attempt("a", 1, here.clock(), attempt_number=1)
    here.go_on(LEASE)
    (doubtful,) = leased.fetch_due(1)
    assert doubtful.attempt_started_at is not None
    assert leased.increment_retry("a", 1, "refused", here.clock(), attempt_number=1)
    later = here.clock() + timedelta(minutes=1)
    assert not leased.mark_dead("a", 1, "lost", unknown=True, attempt_number=1)
    assert not leased.postpone(doubtful, 1, "limit", later, attempt_number=1)
    assert (host.rows["a"].status, host.rows["a"].last_error) == ("pending", "refused")
    here.go_on(2)
    assert leased.fetch_due(1)[0].attempt_started_at is None


@pytest.mark.parametrize("is_dead", [False, True])
def test_delivered_by_an_older_attempt(
    here: World, host: HostRepository, leased: LeasedRepository, is_dead: bool
) -> None:
    """The first sender wakes up after another one has tried it again: it knows better, once."""
    host.add("a")
    leased.fetch_due(1)
    assert leased.begin_attempt("a", 1, here.clock(), attempt_number=1)
    here.go_on(LEASE)
    leased.fetch_due(1)
    assert leased.begin_attempt("a", 2, here.clock(), attempt_number=2)
    if is_dead:
        assert leased.mark_dead("a", 2, "lost", unknown=True, attempt_number=2)
    assert leased.mark_delivered("a", "SM-1", 1, attempt_number=1)
    assert (host.rows["a"].status, host.rows["a"].message_sid) == ("delivered", "SM-1")
    assert not leased.mark_delivered("a", "SM-0", 0, attempt_number=0)
    assert not leased.increment_retry("a", 2, "late", here.clock(), attempt_number=2)
    assert (host.rows["a"].status, host.rows["a"].message_sid) == ("delivered", "SM-1")


def test_without_numbers(here: World, host: HostRepository, leased: LeasedRepository) -> None:
    """Who knows the published arguments only is fenced by the count of attempts."""
    host.add("a", retry_count=2)
    leased.fetch_due(1)
    assert not leased.begin_attempt("nonsense", 3, here.clock())
    assert not leased.begin_attempt("a", 2, here.clock())
    assert leased.begin_attempt("a", 3, here.clock())
    assert not leased.mark_delivered("a", "SM-1", 2)
    assert not leased.increment_retry("a", 2, "late", here.clock())
    assert leased.mark_delivered("a", "SM-1", 3)
    assert (host.rows["a"].status, host.rows["a"].retry_count) == ("delivered", 3)


def test_the_number_of_an_attempt_is_not_its_count(
    here: World, host: HostRepository, leased: LeasedRepository
) -> None:
    """The host's count goes on from before; an end may be written again after a lost answer."""
    host.add("a", retry_count=2)
    leased.fetch_due(1)
    later = here.clock() + timedelta(minutes=1)
    assert leased.begin_attempt("a", 3, here.clock(), attempt_number=1)
    assert not leased.increment_retry("a", 1, "late", later, attempt_number=3)
    for _ in range(2):
        assert leased.increment_retry("a", 3, "no", later, attempt_number=1)
    assert (host.rows["a"].retry_count, host.rows["a"].last_error) == (3, "no")


def test_a_row_that_is_no_message(
    here: World, host: HostRepository, leased: LeasedRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """A row without a recipient is given up and told in the log, and the others are sent."""
    host.add("broken", recipient=None)
    host.add("fine")
    told: list[str] = []
    report = here.loop(leased, on_dead_letter=lambda message, _: told.append(message.id)).drain()
    assert (report.dead, report.delivered, told) == (1, 1, ["broken"])
    assert "recipient" in str(host.rows["broken"].last_error)
    assert "message broken: the message cannot be read" in caplog.text


def test_an_object_of_which_only_the_id_is_known(
    host: HostRepository, leased: LeasedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up without an attempt."""
    host.add("broken", retry_count=3)
    monkeypatch.setattr(host, "fetch_due", lambda _: [SimpleNamespace(id="broken")])
    (told,) = leased.fetch_due(1)
    assert (told.status, host.rows["broken"].status) == ("dead", "dead")
    assert host.rows["broken"].retry_count == 0


def test_what_has_no_id(
    here: World,
    host: HostRepository,
    leased: LeasedRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Objects that are not messages are an error that says so."""
    monkeypatch.setattr(host, "fetch_due", lambda _: [object()])
    with pytest.raises(ConfigError, match="a object without an id"):
        leased.fetch_due(1)
    assert here.loop(leased).run_once().errors == 1


def test_purge(here: World, host: HostRepository, leased: LeasedRepository) -> None:
    """What is done long ago is forgotten; the host's rows stay."""
    host.add("a")
    here.loop(leased).run_once()
    assert leased.purge(60.0) == 0
    here.go_on(61)
    assert leased.purge(60.0) == 1
    assert host.rows["a"].status == "delivered"


def test_workers(here: World, host: HostRepository, leased: LeasedRepository) -> None:
    """Several threads of a loop drain the host's table, each message once."""
    for number in range(12):
        host.add(f"m{number:02}")
    report = here.loop(leased, workers=3, batch_size=4).drain()
    assert (report.delivered, report.errors) == (12, 0)
    assert sorted(map(str, here.bodies)) == sorted(host.rows)


class Asynchronous(HostRepository):
    async def fetch_due(self, limit: int) -> Sequence[HostMessage]:  # type: ignore[override]
        return []


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (Asynchronous, "fetch_due .* asynchronous", "Delete async"),
        (lambda _: object(), "no method fetch_due", "mark_dead"),
    ],
)
def test_wrong_repositories(make: Callable[[SettableClock], Any], reason: str, advice: str) -> None:
    """What cannot work is refused when it is given, with what to write instead."""
    with pytest.raises(ConfigError, match=reason) as caught:
        LeasedRepository(make(SettableClock()))
    assert advice in str(caught.value.remediation)


def test_one_place_for_leases(host: HostRepository, tmp_path: Path) -> None:
    """A file and an engine are one too many."""
    with pytest.raises(ArgumentTypeError, match="not both"):
        LeasedRepository(host, path=tmp_path / "a.db", engine=object())  # type: ignore[arg-type]


def test_the_end_closes_the_file_of_the_leases(host: HostRepository, tmp_path: Path) -> None:
    """The host's repository stays the host's."""
    with LeasedRepository(host, path=tmp_path / "leases.db") as ended:
        assert repr(ended) == f"LeasedRepository({host!r})"
        assert ended.fetch_due(1) == []
    with pytest.raises(ClientClosedError, match=r"leases\.db is closed"):
        ended.purge(1)
    assert host.fetch_due(1) == []


def test_delivered_without_an_id(here: World, host: HostRepository) -> None:
    """A published repository wants a text."""
    leased = LeasedRepository(host, clock=here.clock)
    host.add("a")
    (message,) = leased.fetch_due(1)
    assert leased.begin_attempt(message.id, 1, here.clock())
    assert leased.mark_delivered(message.id, None, 1)
    assert (host.rows["a"].status, host.rows["a"].message_sid) == ("delivered", "")
