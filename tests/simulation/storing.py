"""A store whose every call is a point at which something can go wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import attrs

from buttdial_sync.inbound.deliveries import DeliveryLog
from buttdial_sync.stores.schema import Claim, Condition, Row
from buttdial_sync.stores.store import Store
from tests.simulation.process import Process


class StoreDownError(Exception):
    """The database does not answer."""


class PointStore:
    """
    The way of one process to the rows: all methods of the store, each with a point before it and
    one between its commit and the acknowledgement.

    Args:
        rows: Has them.
        process: Whose way it is. Its clock is the store's.
    """

    def __init__(self, rows: Store, process: Process) -> None:
        self.schema = rows.schema
        self.now = process.clock
        self._rows = rows
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._rows, name)

        def passed(*arguments: Any, **options: Any) -> Any:
            return self._pass(name, partial(method, **options), arguments)

        return passed

    def _pass(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process, world = self._process, self._process.world
        what = name if not world.is_traced else f"{name} {self._shown(arguments)}"
        row_id = _id_in(arguments)
        process.point(what)
        strike = world.strike("store", ("store refuses", "lost acknowledgement"))
        if strike == "store refuses":
            self._fail(what, strike, row_id)
        result = method(*arguments)
        self._note(name, arguments, result)
        process.point(f"    {name} done" if not world.is_traced else f"    {_outcome(result)}")
        if strike is not None:
            self._fail(what, strike, row_id)
        return result

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        """Look at what a call did; nothing else has run since."""
        if name == "update" and result and arguments[1].get("status") == "dead":
            self._process.world.notes.buried[arguments[0]] = self._process

    def _fail(self, what: str, strike: str, row_id: str) -> None:
        world = self._process.world
        self._process.tell(f"{strike}: {what}")
        # It is a time-out that tells.
        self._process.sleep(world.dice.uniform(0.0, 30.0))
        world.notes.store_failures[row_id] += 1
        raise StoreDownError(strike)

    def _shown(self, arguments: tuple[Any, ...]) -> str:
        return " ".join(self._named(each) for each in arguments)

    def _named(self, value: Any) -> str:
        if isinstance(value, dict):
            return _text(value) if "body" in value or "payload" in value else _changes(value)
        if isinstance(value, list):
            return ", ".join(map(self._named, value))
        row = self._rows.find(value) if isinstance(value, str) else None
        if isinstance(value, Claim | Condition):
            return " ".join(
                f"{name}={each}"
                for name, each in _not_default(value)
                if name not in {"now", "limit"}
            )
        return str(value) if row is None else _text(row)


class PointLog:
    """
    The way of one process to the log of what was handed over.

    Args:
        log: Is shared by all processes.
        process: Whose way it is.
    """

    def __init__(self, log: DeliveryLog, process: Process) -> None:
        self._log = log
        self._process = process

    def claim(self, delivery_id: str, lease: float) -> str | None:
        """Claim a delivery."""
        self._process.point(f"claims {delivery_id}")
        token = self._log.claim(delivery_id, lease)
        self._process.point(f"    has {token}")
        return token

    def done(self, delivery_id: str, token: str) -> None:
        """Note that it was handed over."""
        self._process.point(f"is done with {delivery_id}")
        self._log.done(delivery_id, token)

    def release(self, delivery_id: str, token: str) -> None:
        """Give a claim back."""
        self._process.point(f"releases {delivery_id}")
        self._log.release(delivery_id, token)


class OutboxPointStore(PointStore):
    """The way to the outbox; it looks whether the urgent goes first."""

    def __init__(self, rows: Store, process: Process) -> None:
        super().__init__(rows, process)
        self._urgent: list[Row] = []

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        super()._note(name, arguments, result)
        world = self._process.world
        if name == "update" and result and arguments[1].get("status") == "delivered":
            world.notes.delivered_by[arguments[0]] = self._process
        if name == "insert":
            world.notes.written[arguments[0]["id"]] = world.clock()
        if name == "turns" and result:
            # Who is enqueued after this look is not in it.
            self._urgent = [row for row in self._free_rows(arguments[0]) if row["priority"]]
        if name == "claim":
            self._look_who_waits(arguments[0], result)

    def _free_rows(self, now: datetime) -> list[Row]:
        """Return the rows that could be claimed now."""
        pending = [row for row in self._rows.newest(None, 1000) if row["status"] == "pending"]
        queues: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in sorted(pending, key=lambda row: (row["created_at"], row["id"])):
            queues[row["agent_id"], row["ordering_key"] or row["id"]].append(row)
        return [
            rows[0]
            for rows in queues.values()
            if isinstance(rows[0]["next_retry_at"], datetime)
            and rows[0]["next_retry_at"] <= now
            and all(row["leased_until"] is None or row["leased_until"] <= now for row in rows)
        ]

    def _look_who_waits(self, claim: Claim, claimed: list[Row]) -> None:
        free = {row["id"] for row in self._free_rows(claim.now)} - {row["id"] for row in claimed}
        for urgent in self._urgent:
            for row in claimed:
                is_less = (row["priority"] or 0) < urgent["priority"]
                if urgent["id"] in free and is_less and row["agent_id"] == urgent["agent_id"]:
                    self._process.tell(f"takes {row['body']} before {urgent['body']}")
                    self._process.world.notes.overtaken.add(urgent["body"])


def _id_in(arguments: tuple[Any, ...]) -> str:
    """Return the id of the row that a call is about; empty if it is not about one."""
    first = arguments[0] if arguments else ""
    found = first.get("id") if isinstance(first, dict) else first
    return found if isinstance(found, str) else ""


def _not_default(value: Any) -> list[tuple[str, Any]]:
    fields = attrs.fields(type(value))
    return [
        (each.name, getattr(value, each.name))
        for each in fields
        if getattr(value, each.name) != each.default
    ]


def _text(row: dict[str, Any]) -> str:
    return str(row.get("body") or row.get("sender") or row["id"])


def _changes(changes: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:%H:%M:%S.%f}" if isinstance(value, datetime) else f"{name}={value!r}"
        for name, value in changes.items()
    )


def _outcome(result: object) -> str:
    if isinstance(result, list):
        found = (_text(each) if isinstance(each, dict) else str(each) for each in result)
        return f"has {', '.join(found) or 'nothing'}"
    return str(result) if isinstance(result, bool | int) else "done"
