"""The same message to several people: one result each, in their order."""

from __future__ import annotations

import threading

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError, Client, ClientEvent, SendResult
from buttdial_sync.testing import FakeButtDialServer

PEOPLE = [f"+1415555{number:04d}" for number in range(20)]


@pytest.mark.parametrize(
    ("channel", "spellings"),
    [
        ("sms", ["+14155550123", "+1 (415) 555-0123", "+1.415.555.0123"]),
        ("email", ["ann@x.example", "Ann Lee <ann@x.example>", " ann@x.example "]),
    ],
)
def test_spellings_of_one_person(
    channel: str, spellings: list[str], butt_dial_client: Client, fake_server: FakeButtDialServer
) -> None:
    """Whoever has got the message does not get it again under another spelling."""
    results = [
        butt_dial_client.send_many([each], "sale", channel, campaign="june")[0]
        for each in spellings
    ]
    assert [message.to for message in fake_server.delivered] == [spellings[0]]
    assert {each.message_sid for each in results} == {results[0].message_sid}
    # As before this rule: an upgrade in the middle of a campaign sends to nobody twice.
    assert results[0].idempotency_key == f"june:{channel}:{spellings[0]}"


def test_a_recipient_that_cannot_be_reached_has_a_key_too(butt_dial_client: Client) -> None:
    """The result says why it was not sent, as without a campaign."""
    (result,) = butt_dial_client.send_many(["0123"], "sale", "sms", campaign="june")
    assert (result.outcome, result.error_code) == ("not_sent", "INVALID_RECIPIENT")


def test_a_channel_of_a_wrong_type(
    butt_dial_client: Client, fake_server: FakeButtDialServer
) -> None:
    """It is refused by name, and nothing is sent."""
    with pytest.raises(ArgumentTypeError, match="channel"):
        butt_dial_client.send_many(["+14155550123"], "sale", ["sms"], campaign="june")  # type: ignore[arg-type]
    assert fake_server.requests == []


def test_each_has_a_result(butt_dial_client: Client, fake_server: FakeButtDialServer) -> None:
    """Results are in the recipients' order, a bad recipient has one too, and each is told once."""
    told: list[tuple[str, SendResult]] = []
    results = butt_dial_client.send_many(
        iter([*PEOPLE, "hello"]),
        "Hello",
        "sms",
        on_result=lambda *result: told.append(result),
        sender_name="Shop",
    )
    assert [result.outcome for result in results] == ["sent"] * 20 + ["not_sent"]
    assert len({result.message_sid for result in results[:20]}) == 20
    assert sorted(each.args["to"] for each in fake_server.sent_messages) == PEOPLE
    assert {each.args["senderName"] for each in fake_server.sent_messages} == {"Shop"}
    assert sorted(to for to, _ in told) == sorted([*PEOPLE, "hello"])
    assert all(result is results[[*PEOPLE, "hello"].index(to)] for to, result in told)


def test_a_campaign_is_sent_once(butt_dial_client: Client, fake_server: FakeButtDialServer) -> None:
    """Sent again under its name, nobody gets the message twice; under another one, all do."""
    for campaign in ("spring", "spring", "summer"):
        assert all(
            result.ok for result in butt_dial_client.send_many(PEOPLE, "Hello", campaign=campaign)
        )
    assert len(fake_server.delivered) == 40
    butt_dial_client.send_many(PEOPLE, "Hello")
    butt_dial_client.send_many(PEOPLE, "Hello")
    assert len(fake_server.delivered) == 80


def test_several_at_the_same_time() -> None:
    """As many as there are workers are under way, and no more."""
    both = threading.Barrier(2)
    under_way, most, lock = set[int](), [0], threading.Lock()

    def watch(event: ClientEvent) -> None:
        if event.operation != "comms_send_message":
            return
        with lock:
            change = under_way.add if event.kind == "attempt" else under_way.discard
            change(threading.get_ident())
            most[0] = max(most[0], len(under_way))
        if event.kind == "attempt":
            both.wait(30)  # the other one comes here as well, or this fails

    fake = FakeButtDialServer()
    with (
        fake.listen() as server,
        Client(server.base_url, agent_token="t", timeout=60, on_event=watch) as client,
    ):
        assert all(result.ok for result in client.send_many(PEOPLE[:8], "Hello", workers=2))
    assert most == [2]


def test_mistakes_are_raised_before_anything_is_sent(
    butt_dial_client: Client, fake_server: FakeButtDialServer
) -> None:
    """What a programmer has to correct is not a result of each."""
    with pytest.raises(ArgumentTypeError, match="give campaign"):
        butt_dial_client.send_many(PEOPLE, "Hello", idempotency_key="k")
    with pytest.raises(ArgumentTypeError, match="not one str"):
        butt_dial_client.send_many("+14155550123", "Hello")
    with pytest.raises(ArgumentValueError, match="workers must be at least 1"):
        butt_dial_client.send_many(PEOPLE, "Hello", workers=0)
    with pytest.raises(ArgumentTypeError, match="body must be str"):
        butt_dial_client.send_many(PEOPLE, 5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"recipients\[20\] must be str, not NoneType"):
        butt_dial_client.send_many([*PEOPLE, None], "Hello")  # type: ignore[list-item]
    assert not fake_server.sent_messages


def test_an_interruption_leaves_the_others(
    butt_dial_client: Client, fake_server: FakeButtDialServer
) -> None:
    """What ``on_result`` raises ends it, in the calling thread: who was not begun gets nothing."""
    crowd = [f"+1415556{number:04d}" for number in range(1000)]
    told: list[tuple[str, int]] = []

    def interrupted(to: str, _: SendResult) -> None:
        told.append((to, threading.get_ident()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        butt_dial_client.send_many(crowd, "Hello", workers=1, on_result=interrupted)
    [(first, thread)] = told
    assert first in crowd  # of several that are done, any comes first
    assert thread == threading.get_ident()
    assert len(fake_server.sent_messages) < len(crowd)


def test_a_client_that_is_closed_meanwhile() -> None:
    """Those who come later have a failed result, and what was sent is not forgotten."""
    fake = FakeButtDialServer()

    def close_after_first(event: ClientEvent) -> None:
        if (event.kind, event.operation) == ("answer", "comms_send_message"):
            client.close()

    with fake.listen() as server:
        client = Client(server.base_url, agent_token="t", on_event=close_after_first)
        results = client.send_many(PEOPLE, "Hello", workers=1)
    assert [result.outcome for result in results] == ["sent"] + ["not_sent"] * 19
    assert results[1].error_code == "CLIENT_CLOSED"
