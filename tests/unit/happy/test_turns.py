"""Which turn answers a message: the rules one by one, and generated interleavings."""

from __future__ import annotations

import random
from typing import Any

import pytest

from buttdial_sync.happy.models import Message
from buttdial_sync.happy.turns import TurnTracker, standing_of
from buttdial_sync.happy.updates import Update, update_of

INTERLEAVINGS = 1_000


def event(turn: str | None, kind: str, **fields: Any) -> dict[str, Any]:
    named = {"turn": turn} if turn else {}
    return {"role": "session", "content": {**named, "role": "agent", "ev": {"t": kind, **fields}}}


def start(turn: str | None) -> dict[str, Any]:
    return event(turn, "turn-start")


def text(turn: str | None) -> dict[str, Any]:
    return event(turn, "text", text="…")


def end(turn: str | None, status: str = "completed") -> dict[str, Any]:
    return event(turn, "turn-end", status=status)


READY = {"role": "agent", "content": {"type": "event", "data": {"type": "ready"}}}
OLDER_TEXT = {"role": "agent", "content": {"type": "output", "data": {}}}
USER = {"role": "user", "content": {"type": "text", "text": "hello"}}


def updates(*contents: Any) -> list[Update]:
    return [
        update_of(Message(id=str(seq), session_id="s", seq=seq, content=content))
        for seq, content in enumerate(contents, 1)
    ]


def tracked(*contents: Any, running: str | None = None) -> TurnTracker:
    tracker = TurnTracker(running)
    for update in updates(*contents):
        tracker.see(update)
    return tracker


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_our_turn_and_its_end(status: str) -> None:
    """The turn that starts above the message is ours, and ends as it says."""
    assert tracked(start("a"), text("a"), end("a", status)).ended == status


def test_a_turn_without_a_name() -> None:
    """Turns that are not named are told by their order."""
    tracker = tracked(start(None), text(None), end(None))
    assert (tracker.turn, tracker.ended) == ("", "completed")


def test_an_unknown_status_is_an_end() -> None:
    """A newer producer's way of ending is an end."""
    assert tracked(start("a"), end("a", "exhausted")).ended == "completed"


def test_a_late_end_is_not_ours() -> None:
    """An earlier turn's end ends nothing, whether it was known to run or not."""
    for running in (None, "old"):
        tracker = tracked(text("old"), end("old"), running=running)
        assert tracker.ended is None
    tracker = tracked(end("old"), start("a"), text("a"), running="old")
    assert (tracker.ended, tracker.likely_end) == (None, None)
    tracker = tracked(start("a"), end("old"), running="old")
    assert (tracker.ended, tracker.likely_end) == (None, None)
    assert tracked(end("old"), start("a"), running="old").likely_end is None
    assert tracked(end("older"), running="old").likely_end is None


def test_a_message_that_went_into_a_running_turn() -> None:
    """If nothing follows the end of the turn that ran, it was ours."""
    tracker = tracked(text("old"), end("old", "failed"), running="old")
    assert (tracker.ended, tracker.likely_end) == (None, "failed")
    assert tracker.is_of_turn(updates(text("old"))[0])


def test_ready_counts_after_output_only() -> None:
    """Older producers end a turn by being ready; one that was ready before says nothing."""
    assert tracked(READY).ended is None
    assert tracked(USER, READY).ended is None
    assert tracked(READY, OLDER_TEXT).ended is None
    assert tracked(OLDER_TEXT, READY).ended == "completed"
    assert tracked(text(None), READY).ended == "completed"


def test_ready_within_a_named_turn_may_be_an_earlier_ones() -> None:
    """A turn with a name has an end of its own; being ready ends it only if nothing follows."""
    assert tracked(text("old"), READY, start("a")).likely_end is None
    tracker = tracked(start("a"), text("a"), READY)
    assert (tracker.ended, tracker.likely_end) == (None, "completed")
    assert tracked(start("a"), text("a"), READY, text("a")).likely_end is None


def test_ready_of_the_turn_that_ran() -> None:
    """An older producer that was at work may be ready with the earlier prompt only."""
    tracker = tracked(OLDER_TEXT, READY, running="")
    assert (tracker.ended, tracker.likely_end) == (None, "completed")
    assert tracked(OLDER_TEXT, READY, OLDER_TEXT, running="").likely_end is None


def test_sub_agents_have_turns_of_their_own() -> None:
    """What a sub-agent begins and ends is not the agent's."""
    sub = end("a")
    sub["content"]["subagent"] = "helper"
    assert tracked(start("a"), sub).ended is None


def test_an_end_that_was_lost() -> None:
    """If another turn starts while ours has not ended, ours is over, and nobody said how."""
    tracker = tracked(start("a"), text("a"), start("b"), text("b"), end("b"))
    assert (tracker.turn, tracker.ended, tracker.likely_end) == ("a", None, "undetermined")
    assert tracked(start("a"), start("a")).likely_end is None
    assert tracked(start("a"), start("b"), end("a", "failed")).ended == "failed"


def test_what_belongs_to_our_turn() -> None:
    """What names no turn may be ours; what names another is not."""
    ours, other, unnamed = updates(text("a"), text("b"), text(None))
    tracker = tracked(start("a"), running="b")
    assert [tracker.is_of_turn(each) for each in (ours, other, unnamed)] == [True, False, True]
    assert tracked(running="b").is_of_turn(other)


def test_nothing_follows_an_end() -> None:
    """A turn ends once."""
    assert tracked(start("a"), end("a", "failed"), end("a")).ended == "failed"
    assert TurnTracker().likely_end is None
    tracker = tracked(start("a"), end("a", "failed"), start("b"), end("b"))
    assert (tracker.ended, tracker.turn) == ("failed", "a")


def test_a_turn_that_runs_already() -> None:
    """A turn that is joined in its middle ends with its own end."""
    tracker = TurnTracker(turn="a")
    for update in updates(text("a"), end("b"), end("a", "cancelled")):
        tracker.see(update)
    assert tracker.ended == "cancelled"
    older = TurnTracker(turn="")
    older.see(updates(READY)[0])
    assert older.likely_end == "completed"


def interleaved(source: random.Random, *streams: list[Any]) -> list[Any]:
    """Merge streams; each keeps its own order."""
    rest = [list(stream) for stream in streams if stream]
    merged = []
    while rest:
        stream = source.choice(rest)
        merged.append(stream.pop(0))
        rest = [each for each in rest if each]
    return merged


def test_late_ends_in_any_order() -> None:
    """Whatever of earlier turns comes late, ours ends with its own end and not before."""
    for seed in range(INTERLEAVINGS):
        source = random.Random(seed)
        late = [text("old")] * source.randrange(3) + [end("old", "failed")]
        later = [end("older", "failed")] * source.randrange(2)
        ready = [READY] * source.randrange(2)
        noise = [{"role": "new", "content": {}}, {"strange": 1}, USER] * source.randrange(2)
        ours = [start("ours"), *[text("ours")] * source.randrange(4)]
        tracker = TurnTracker(source.choice([None, "old"]))
        for update in updates(*interleaved(source, late, later, ready, noise, ours)):
            tracker.see(update)
            assert tracker.ended is None, seed
        assert tracker.turn == "ours"
        status = source.choice(["completed", "failed", "cancelled"])
        for update in updates(end("ours", status), end("old"), READY):
            tracker.see(update)
        assert tracker.ended == status, seed


@pytest.mark.parametrize(
    ("history", "running", "asked", "last_end"),
    [
        ([], None, None, None),
        ([USER], None, 1, None),
        ([USER, start("a"), text("a"), end("a", "failed")], None, None, "failed"),
        ([USER, start("a"), text("a")], "a", None, None),
        ([USER, start("a"), USER], "a", 3, None),
        ([USER, start("a"), end("a"), USER], None, 4, "completed"),
        ([start("a"), end("a"), text("a")], None, None, "completed"),
        ([USER, OLDER_TEXT], "", None, None),
        ([USER, OLDER_TEXT, READY], None, None, "completed"),
        ([{"strange": 1}], None, None, None),
    ],
)
def test_what_a_session_is_doing(
    history: list[Any], running: str | None, asked: int | None, last_end: str | None
) -> None:
    """The last that happened tells whether a turn runs, and whether a message waits for one."""
    standing = standing_of(reversed(updates(*history)))
    assert (standing.running, standing.asked_seq, standing.last_end) == (running, asked, last_end)
