"""What the loop does with due messages."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from buttdial_sync import ArgumentValueError, Client, ConfigError, RetryLoop, RetryReport
from buttdial_sync.retry import MemoryRepository
from tests.unit.retry.world import TOKEN, Failing, World, world


def test_due_messages_are_sent(here: World) -> None:
    """A pass sends what is due, oldest first, and records the server's ids."""
    here.add("a")
    here.go_on(1)
    here.add("b")
    here.add("later", next_retry_at=here.clock() + timedelta(hours=1))
    assert here.loop().run_once() == RetryReport(fetched=2, delivered=2)
    assert here.bodies == ["a", "b"]
    assert here.row().status == "delivered"
    assert here.row().message_sid
    assert here.row("later").status == "pending"


def test_a_pass_takes_one_batch_and_drain_all(here: World) -> None:
    """run_once tries batch_size messages; drain goes on until nothing is due."""
    for number in range(7):
        here.add(f"m{number}")
    loop = here.loop(batch_size=3)
    assert loop.run_once().delivered == 3
    told: list[int] = []
    report = loop.drain(lambda report: told.append(report.processed))
    assert (report.fetched, report.delivered) == (4, 4)
    assert told == [1, 2, 3, 4]
    assert here.repository.count_pending() == 0


def test_everything_that_a_message_has_is_sent(here: World) -> None:
    """Each field reaches the server under its name, with the row's own key."""
    here.add(
        "a",
        recipient="ann@example.com",
        body="Hello",
        channel="email",
        idempotency_key="key-1",
        subject="Greetings",
        html="<b>Hello</b>",
        media_url="https://a.example/b.png",
        thread_id="thread",
        entity_id="entity",
        reply_msg_id="reply",
    )
    here.loop().run_once()
    assert here.fake.delivered[0].args == {
        "to": "ann@example.com",
        "body": "Hello",
        "channel": "email",
        "idempotencyKey": "key-1",
        "subject": "Greetings",
        "html": "<b>Hello</b>",
        "media": ["https://a.example/b.png"],
        "threadId": "thread",
        "entityId": "entity",
        "replyMsgId": "reply",
    }


def test_a_row_without_a_key_has_the_same_one_each_time(here: World) -> None:
    """A row of an older table is sent with a key that its id makes."""
    here.add("a")
    here.fake.on_send(error="busy")
    loop = here.loop()
    loop.run_once()
    here.go_on(3600)
    loop.run_once()
    keys = [call.idempotency_key for call in here.fake.sent_messages]
    assert keys == ["buttdial-sync-a"] * 2


def test_the_backoff_doubles_until_the_message_is_given_up(here: World) -> None:
    """2, 4, 8, 16 minutes; the fifth failure is the last, and the host is told."""
    here.add("a", max_retries=5)
    here.fake.on_send(error="no such number", count=9)
    told: list[tuple[str, str]] = []
    loop = here.loop(on_dead_letter=lambda message, error: told.append((message.id, error)))
    pauses = []
    for _ in range(4):
        assert loop.run_once().retried == 1
        pauses.append(here.minutes_until_due())
        here.go_on(pauses[-1] * 60)
    assert pauses == [2, 4, 8, 16]
    assert loop.run_once() == RetryReport(fetched=1, dead=1, last_error="no such number")
    assert (here.row().status, here.row().last_error) == ("dead", "no such number")
    assert told == [("a", "no such number")]


def test_a_backoff_of_the_host(here: World) -> None:
    """It may say a timedelta or seconds, not before now; when it raises, the default holds."""
    answers: list[Any] = [timedelta(seconds=30), 60, "nonsense", -60]
    loop = here.loop(backoff=lambda count: answers[count - 1])
    here.add("a")
    here.fake.on_send(error="busy", count=4)
    seen = []
    for _ in answers:
        loop.run_once()
        seen.append(here.minutes_until_due())
        here.go_on(seen[-1] * 60)
    assert seen == [0.5, 1, 8, 0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channel": "pigeon"}, "channel must be one of"),
        ({"body": ""}, "nothing to send"),
        ({"recipient": " "}, "to must not be empty"),
        ({"target_gender": "other"}, "target_gender"),
        ({"template_vars": {"a": 1}}, "template_vars"),
    ],
)
def test_what_can_never_be_sent_is_given_up_at_once(
    here: World, fields: dict[str, Any], reason: str
) -> None:
    """A row that no server would take goes to dead with its reason; the others go on."""
    here.add("bad", **{"body": "bad", **fields})
    here.add("good")
    report = here.loop().run_once()
    assert (report.dead, report.delivered) == (1, 1)
    assert reason in (here.row("bad").last_error or "")


def test_an_argument_that_the_server_would_drop() -> None:
    """Media that the open-source server cannot send give the row up, instead of dropping them."""
    with world("open-source") as here:
        here.add("a", media_url="https://a.example/b.png")
        assert here.loop().run_once().dead == 1
        assert "media" in (here.row().last_error or "")
        assert here.bodies == []


def test_no_attempt_left(here: World) -> None:
    """A row whose attempts are spent is given up without another."""
    here.add("a", retry_count=5, max_retries=5, last_error="refused")
    assert here.loop().run_once().dead == 1
    assert here.row().last_error == "no attempt is left; the last: refused"
    assert here.fake.sent_messages == []


def test_a_body_of_a_mebibyte(here: World) -> None:
    """Large texts go through as they are."""
    here.add("a", body="ü" * (512 * 1024))
    assert here.loop().run_once().delivered == 1
    assert here.bodies == ["ü" * (512 * 1024)]


def test_rows_have_their_attempt_recorded_before_it_leaves(here: World) -> None:
    """When the server sees the message, its row says that an attempt began."""
    seen = []

    def answer(_args: dict[str, Any]) -> dict[str, Any]:
        seen.append((here.row().retry_count, here.row().attempt_started_at))
        return {"messageId": "SM-1"}

    here.fake.on_tool("comms_send_message", answer)
    here.add("a")
    here.loop().run_once()
    assert seen == [(1, here.clock())]


def test_what_another_process_began_is_left_to_it(here: World) -> None:
    """When begin_attempt says no, nothing is sent."""
    here.add("a")

    class Slow(Failing):
        def begin_attempt(self, msg_id: str, retry_count: int, started_at: Any) -> bool:
            here.repository.begin_attempt(msg_id, retry_count, started_at)
            return here.repository.begin_attempt(msg_id, retry_count, started_at)

    report = here.loop(Slow(here.repository)).run_once()
    assert report == RetryReport(fetched=1, taken=1)
    assert here.fake.sent_messages == []


def test_the_clock_went_back(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the loop goes on."""
    loop = here.loop()
    loop.run_once()
    here.clock.move(-3600)
    here.add("a")
    assert loop.run_once().delivered == 1
    assert loop.run_once().errors == 0
    assert caplog.text.count("the clock went back by 3600 s") == 1


def test_one_given_message(here: World) -> None:
    """run_message tries the message that it is given, once, in this thread, and fetches none."""
    for msg_id in ("a", "b", "c"):
        here.add(msg_id)
    fetched = {message.id: message for message in here.repository.fetch_due(2)}
    threads: list[int] = []
    loop = here.loop(
        Failing(here.repository, "fetch_due"),
        workers=4,
        pace=lambda: threads.append(threading.get_ident()),
    )
    assert loop.run_message(fetched["b"]) == RetryReport(fetched=1, delivered=1)
    assert loop.run_message(fetched["b"]) == RetryReport(fetched=1, taken=1)
    assert here.bodies == ["b"]
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize("paused", ["agent-1", None])
def test_a_message_whose_agent_was_paused_meanwhile(here: World, paused: str | None) -> None:
    """run_message puts it back, free and due, for when somebody has resumed."""
    here.add(agent_id="agent-1")
    (fetched,) = here.repository.fetch_due(1)
    here.repository.pause(paused)
    report = here.loop().run_message(fetched)
    assert report == RetryReport(postponed=1, last_error="agent agent-1 is paused")
    assert here.repository.leased() == {}
    here.repository.resume(paused)
    assert here.loop().run_message(here.row()).delivered == 1


def test_a_message_that_is_not_the_first_of_its_order(here: World) -> None:
    """run_message puts it back, however somebody came by it."""
    here.add("a", ordering_key="k", created_at=here.clock(), next_retry_at=here.clock.move(60))
    here.add("b", ordering_key="k", created_at=here.clock.move(1))
    report = here.loop().run_message(here.row("b"))
    told = "message a with the same ordering_key is sent before it"
    assert report == RetryReport(postponed=1, last_error=told)
    assert here.loop().run_message(here.row("a")).delivered == 1
    assert here.loop().run_message(here.row("b")).delivered == 1
    assert here.bodies == ["a", "b"]


def test_workers_share_one_stream(here: World) -> None:
    """Eight threads send, each message once, over one session."""
    for number in range(40):
        here.add(f"m{number}")
    report = here.loop(workers=8).drain()
    assert report == RetryReport(fetched=40, delivered=40)
    assert sorted(map(str, here.bodies)) == sorted(f"m{number}" for number in range(40))
    assert here.fake.streams_opened == 1


def test_a_closed_client_spends_nothing(here: World) -> None:
    """Messages stay as they were when the client is closed."""
    here.add("a")
    here.client.close()
    assert here.loop().run_once().postponed == 1
    assert (here.row().retry_count, here.row().attempt_started_at) == (0, None)


def test_a_lease_must_be_longer_than_the_timeout(here: World) -> None:
    """A lease that could end while a message is on its way is refused at once."""
    with pytest.raises(ArgumentValueError, match=r"lease \(5 s\) must be longer"):
        here.loop(MemoryRepository(lease=5.0))
    with pytest.raises(ConfigError, match="no lease"):
        here.loop(object())


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"batch_size": 0}, {"on_unknown": "send"}, {"workers": True}]
)
def test_wrong_options_are_refused(here: World, options: dict[str, Any]) -> None:
    """A wrong option is told by the constructor."""
    with pytest.raises(ConfigError):
        here.loop(**options)


def test_repr_has_no_token(here: World) -> None:
    """Neither the loop nor a row shows a token."""
    here.add("a", agent_token=TOKEN)
    assert TOKEN not in repr(here.loop()) + repr(here.row())


def test_the_defaults_serve() -> None:
    """Nothing but a repository and a client is needed."""
    with world() as here, Client("https://butt-dial.test", agent_token="t") as client:
        repository = MemoryRepository()
        loop = RetryLoop(repository, client)
        assert loop.run_once() == RetryReport()
        assert here.fake.requests == []


def test_the_usual_batch(here: World) -> None:
    """Twenty messages, tried in this thread."""
    for number in range(21):
        here.add(f"m{number}")
    threads: set[int] = set()
    loop = here.loop(pace=lambda: threads.add(threading.get_ident()))
    assert loop.run_once() == RetryReport(fetched=20, delivered=20)
    assert threads == {threading.get_ident()}


LIMIT = "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."


@pytest.mark.parametrize(("timeout", "slept"), [(60, []), (60.5, [61]), (300, [61]), (None, [61])])
def test_how_long_drain_waits(here: World, timeout: float | None, slept: list[float]) -> None:
    """For a limit that ends within the time that it has."""
    here.add("a")
    here.fake.on_send(error=LIMIT)
    report = here.loop().drain(timeout=timeout)
    assert here.slept == slept
    assert (report.delivered, report.paused_until is None) == (len(slept), bool(slept))


def test_drain_waits_only_for_its_own_messages(here: World) -> None:
    """It waits for a limit that an earlier pass met; a missing token is not a limit."""
    here.add("a")
    here.fake.on_send(error=LIMIT)
    loop = here.loop()
    loop.run_once()
    assert loop.drain() == RetryReport(fetched=1, delivered=1)
    other = here.loop()
    here.add("c", agent_id="other")
    assert other.drain() == RetryReport(
        fetched=1, postponed=1, last_error="no token for agent other: give the loop token_for"
    )
    assert here.slept == [61.0]


def test_an_interrupt_passes_through(here: World) -> None:
    """Ctrl-C in a hook ends the pass and the caller."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    for workers in (1, 2):
        here.add(f"m{workers}")
    with pytest.raises(KeyboardInterrupt):
        here.loop(pace=interrupt).run_once()
    assert here.fake.sent_messages == []


@pytest.mark.parametrize(
    ("back", "ticks", "told"), [(5, 0, None), (6, 0, "6 s"), (10, 10, "20 s"), (0, 10, "10 s")]
)
def test_how_far_the_clock_went_back(
    here: World, back: float, ticks: float, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """As seen from a clock that never does; some seconds are left to those who set clocks."""
    loop = here.loop()
    loop.run_once()
    here.go_on(100)
    loop.run_once()
    here.clock.move(-back)
    here.seconds += ticks
    loop.run_once()
    assert ("the clock went back" in caplog.text) is (told is not None)
    assert f"went back by {told}" in caplog.text or told is None
