"""What has to be true at the end of every history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from typing import Any

from buttdial_sync.inbound.serialized import as_event
from tests.simulation.network import Server
from tests.simulation.plan import RECEIPTS
from tests.simulation.world import World, name_of

Row = dict[str, Any]

_TRIES = 5
_EXTENSIONS = 2
_INBOX_TRIES = 6


def broken_promises(world: World, server: Server) -> list[str]:
    """Compare the rows with what the server did and what the hosts were told."""
    rows = world.rows()
    return [
        *_lost(world, rows),
        *(each for row in rows for each in _untrue(world, server, row)),
        *_twice(world, server),
        *_too_late(world),
        *_out_of_order(world, server, rows),
        *_overtaken(world),
        *_attempts(world, rows),
        *_receipts(world, rows),
        *_known_but_thrown_away(world, rows),
        *_untold(world, rows),
        *_inbox(world),
    ]


def _lost(world: World, rows: list[Row]) -> Iterator[str]:
    """Every message whose writing was acknowledged has a row, and none waits for ever."""
    present = {row["id"] for row in rows}
    for text, count in Counter(row["body"] for row in rows).items():
        if count > 1:
            yield f"doubled: {count} rows of {text}, which has one key"
    for text, row_id in world.notes.enqueued.items():
        if row_id not in present:
            yield f"lost: {text} was enqueued, and there is no row"
    for row in rows:
        if row["status"] == "pending":
            yield f"stuck: {row['body']} is still pending, due {row['next_retry_at']}"


def _untrue(world: World, server: Server, row: Row) -> Iterator[str]:
    text, count = row["body"], server.executed[row["body"]]
    if row["status"] == "delivered":
        sids = {f"SM-{text}-{number}" for number in range(1, count + 1)}
        if row["message_sid"] not in sids:
            yield f"untrue: {text} is delivered as {row['message_sid']}, the server has {sids}"
    if row["status"] == "dead" and row["attempt_started_at"] is None:
        if count:
            yield f"untrue: {text} is dead as certainly not sent, but was: {row['last_error']}"
        excused = row["expires_at"] is not None or row["id"] in world.notes.edited
        if not server.refused[text] and not excused:
            yield f"given up for no fault of its own: {text}: {row['last_error']}"


def _twice(world: World, server: Server) -> Iterator[str]:
    if world.plan.on_unknown == "retry" and not server.honours_keys:
        return
    for text, count in server.executed.items():
        if count > 1:
            yield f"twice: {text} was sent {count} times"


def _too_late(world: World) -> Iterator[str]:
    """Nothing is sent after its expires_at, but by who was stopped between the clock and that."""
    notes = world.notes
    if notes.late and not (notes.paused or notes.jumped):
        yield f"too late: {', '.join(sorted(notes.late))}"


def _out_of_order(world: World, server: Server, rows: list[Row]) -> Iterator[str]:
    """What has the same ordering_key was sent in its order, but for what was given up before."""
    if world.notes.jumped:
        return  # the order is that of the clocks
    notes = world.notes
    kept = [
        row
        for row in rows
        if row["ordering_key"]
        and row["status"] == "delivered"
        and row["id"] not in notes.edited
        and row["id"] not in notes.buried
    ]
    for first, second in permutations(kept, 2):
        is_earlier = notes.written[first["id"]] < second["created_at"]
        is_alike = all(first[name] == second[name] for name in ("agent_id", "ordering_key"))
        texts = (first["body"], second["body"])
        if is_earlier and is_alike and server.order.index(texts[0]) > server.order.index(texts[1]):
            yield f"out of order: {texts[1]} was sent before {texts[0]}"


def _overtaken(world: World) -> Iterator[str]:
    """Of an agent's rows that are due and free, those with the highest priority are fetched."""
    if world.notes.overtaken:
        yield f"overtaken by what is less urgent: {', '.join(sorted(world.notes.overtaken))}"


def _attempts(world: World, rows: list[Row]) -> Iterator[str]:
    """An attempt that the server cannot have had, as in an outage, does not count."""
    notes = world.notes
    for row in rows:
        spent, reached = row["retry_count"], notes.reached[row["body"]]
        # Who was killed or stopped, or could not write, may have begun one without a request.
        stopped = notes.crashed or notes.paused or notes.jumped
        excused = stopped or notes.store_failures[row["id"]]
        if spent > reached and not excused:
            yield f"spent: {row['body']} has {spent} attempts, the server may have had {reached}"


def _receipts(world: World, rows: list[Row]) -> Iterator[str]:
    """What the receipts of a message said last is in its row, however they came."""
    for row in rows:
        told = world.notes.receipts[row["message_sid"]]
        by = world.notes.delivered_by.get(row["id"])
        # A receipt that came before the answer is a row of its own, by the message's sid.
        failures = sum(world.notes.store_failures[each] for each in (row["id"], row["message_sid"]))
        # Who was killed could not look for it.
        excused = failures >= _TRIES or (by and by.is_dead)
        if not told or row["status"] != "delivered" or excused:
            continue
        last = max(told, key=RECEIPTS.index)
        # A process that was killed may have written a later one, and told nobody.
        if row["receipt_status"] not in RECEIPTS[RECEIPTS.index(last) :]:
            yield f"receipt of {row['body']}: {last}, the row has {row['receipt_status']}"


def _known_but_thrown_away(world: World, rows: list[Row]) -> Iterator[str]:
    """What a process knows that lived to the end has to be in the row."""
    for row in rows:
        sent = any(
            result.ok and not process.is_dead
            for process, result in world.notes.answers[row["body"]]
        )
        excused = world.notes.store_failures[row["id"]] >= _TRIES
        if sent and row["status"] != "delivered" and not excused:
            yield f"known to be sent, but {row['body']} is {row['status']}: {row['last_error']}"


def _untold(world: World, rows: list[Row]) -> Iterator[str]:
    """Each dead letter was told, unless its process was killed before it could tell."""
    notes = world.notes
    for row in rows:
        if row["status"] != "dead":
            continue
        told = row["id"] in notes.told_dead or row["body"] in notes.told_by_result
        buried = notes.buried.get(row["id"])
        failures = notes.store_failures[row["id"]]
        # A row that a person broke cannot be asked whether a change without an answer was made.
        is_unknown = failures >= _TRIES or (failures and row["id"] in notes.edited)
        if not told and not (is_unknown or (buried and buried.is_dead)):
            yield f"untold: {row['body']} is dead: {row['last_error']}"


def _inbox(world: World) -> Iterator[str]:
    notes = world.notes
    rows = {row["id"]: row for row in world.inbox_rows.newest(None, 1000)}
    if len(rows) < len(notes.taken_in):
        yield f"lost: {len(notes.taken_in)} messages were taken in, {len(rows)} are in the inbox"
    for row in rows.values():
        if row["status"] == "pending":
            yield f"stuck: a message in the inbox is still pending, due {row['next_retry_at']}"
    # Who was killed, or never got an answer of the store, could not tell that it gave something up.
    untold = {
        name_of(as_event(row["kind"], json.loads(row["payload"])))  # type: ignore[arg-type]
        for row in rows.values()
        if row["status"] == "dead"
        and (notes.buried[row["id"]].is_dead or notes.store_failures[row["id"]] >= _INBOX_TRIES)
    }
    # Who did not extend its lease twice loses it while its handler is at work.
    unextended = any(notes.store_failures[row_id] >= _EXTENSIONS for row_id in rows)
    for text in notes.accepted:
        times = notes.handled[text]
        if not times and text not in notes.undelivered | untold:
            yield f"lost: {text} came in, and was neither handled nor given up"
        # Who was killed, or stopped beyond its lease, could not say that it had handled it.
        excused = unextended or notes.paused or notes.jumped or any(each.is_dead for each in times)
        if len(times) > 1 and not excused:
            yield f"handled {len(times)} times: {text}"
    for text in sorted(notes.undelivered - notes.failed):
        yield f"given up for no fault of its own: no handler failed on {text}"
    if notes.overlaps and not (unextended or notes.paused or notes.jumped or notes.crashed):
        yield f"two messages of {notes.overlaps[0]} were handled at once"
