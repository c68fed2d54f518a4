"""One history: a few processes share their rows while things go wrong, until all is settled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.transport.token_breaker import forget_token_breakers
from tests.simulation.host import Host
from tests.simulation.judging import broken_promises
from tests.simulation.kernel import Kernel, running
from tests.simulation.network import Server
from tests.simulation.plan import LEASE, RECEIPTS, SPAN, Event, Job, draw
from tests.simulation.process import Process
from tests.simulation.threads import simulated_threads
from tests.simulation.world import Tell, World

_LOOKS_EVERY = 10.0
_GRACE = 60.0
_SETTLED_WITHIN = 2 * 3600.0
_RESTARTS_WITHIN = 30.0
_WEBHOOK_AGAIN_AFTER = 5.0

# Times as people write them, and one that is none.
_BY_HAND = ("datetime('now', '-300 days')", "'2026-01-01T00:00:00'", "'2026-01-01'", "'12:30'")


class History:
    """
    A history.

    Args:
        kernel: Decides everything.
        tell: Gets the trace, line by line.
    """

    def __init__(self, kernel: Kernel, tell: Tell | None = None) -> None:
        self._kernel = kernel
        self._plan = draw(self._kernel.dice)
        self._world = World(self._kernel, self._plan, tell)
        self._server = Server(self._world, self._plan.dialect, self._tell_what_became)
        self._hosts: dict[str, Host] = {}
        self._open = 0
        self._is_over = False
        if tell is not None:
            tell(f"{self._plan}")

    def run(self) -> list[str]:
        """Run, and return which promises were broken."""
        kernel, plan = self._kernel, self._plan
        for number in range(plan.processes):
            self._begin(f"p{number}", 0.0)
        for job in plan.jobs:
            self._open += 1
            kernel.spawn(lambda job=job: self._do(job), f"job {job.text}", after=job.at)  # type: ignore[misc]
        for event in plan.events:
            self._open += 1
            kernel.spawn(lambda event=event: self._happen(event), event.kind, after=event.at)  # type: ignore[misc]
        kernel.spawn(self._end_well, "the end", after=SPAN)
        kernel.run(lambda: self._is_over)
        broken = broken_promises(self._world, self._server)
        broken += [f"{name} ended with {error!r}" for name, error in kernel.failures]
        self._world.close()
        return broken

    def _begin(self, name: str, after: float) -> None:
        def main() -> None:
            process = Process(self._world, name, self._crashed)
            self._world.tell(name, "begins")
            host = self._hosts[name] = Host(process, self._server)
            process.spawn(host.run, "main")

        self._kernel.spawn(main, f"{name} begins", after=after)

    def _crashed(self, process: Process) -> None:
        self._hosts.pop(process.name, None)
        self._begin(process.name, self._kernel.dice.uniform(1.0, _RESTARTS_WITHIN))

    def _alive(self) -> Host:
        """Return a process that runs, waiting for one if need be."""
        while not self._hosts:
            self._kernel.sleep(1.0)
        return self._kernel.dice.choice(list(self._hosts.values()))

    def _do(self, job: Job) -> None:
        if job.kind in {"inbound", "receipt"}:
            self._deliver(job)
        else:
            host = self._alive()
            host.process.spawn(lambda: host.send(job), f"sends {job.text}")
        self._open -= 1

    def _deliver(self, job: Job) -> None:
        """
        Send a webhook again and again until it is accepted, and sometimes once more.

        One that is not deferred is sent once. If it is not accepted, the message is put into the
        waiting queue, and some process reads it there.
        """
        if not job.is_deferred:
            if not self._is_accepted(job):
                self._kernel.sleep(self._kernel.dice.uniform(0.0, LEASE))
                self._let_wait(job)
            return
        wanted = 2 if self._kernel.dice.random() < 0.2 else 1
        while wanted:
            if self._is_accepted(job):
                self._world.notes.taken_in.add(job.known_as)
                wanted -= 1
            else:
                self._kernel.sleep(_WEBHOOK_AGAIN_AFTER)

    def _is_accepted(self, job: Job) -> bool:
        host, statuses = self._alive(), list[int]()
        host.process.spawn(lambda: statuses.append(host.receive(job)), f"gets {job.text}")
        end = self._kernel.now + 10.0
        while not statuses and self._kernel.now < end:
            self._kernel.sleep(0.1)
        is_accepted = statuses[:1] == [200]
        if is_accepted:
            self._world.notes.accepted.add(job.known_as)
        return is_accepted

    def _let_wait(self, job: Job) -> None:
        """Let processes read it from the queue until one has written it to the inbox."""
        notes = self._world.notes
        while job.known_as not in notes.taken_in:
            host = self._alive()
            host.process.spawn(lambda: host.take_in(job), f"reads {job.text}")  # noqa: B023
            self._kernel.sleep(LEASE)
        notes.accepted.add(job.known_as)

    def _tell_what_became(self, message_sid: str, idempotency_key: str | None) -> None:
        """Let the server send receipts: in any order, also before the answer, also none."""
        dice = self._kernel.dice
        for status in RECEIPTS:
            if dice.random() < self._plan.receipts:
                after = dice.choice((0.0, dice.uniform(0.0, 60.0)))
                job = Job(
                    at=self._kernel.now + after,
                    text=message_sid,
                    kind="receipt",
                    status=status,
                    idempotency_key=dice.choice((None, idempotency_key)),
                )
                self._open += 1
                self._kernel.spawn(lambda job=job: self._do(job), f"receipt {status}", after=after)  # type: ignore[misc]

    def _happen(self, event: Event) -> None:
        server, now = self._server, self._kernel.now
        self._world.tell("world", f"{event.kind} for {event.seconds:.0f} s")
        end = now + event.seconds
        if event.kind == "outage":
            server.is_down = True
            server.restart()
            self._kernel.sleep(event.seconds)
            server.is_down = False
        elif event.kind == "restart":
            server.restart()
        elif event.kind == "limit":
            server.limited_until = end
        elif event.kind == "lockout":
            server.locked_until = end
        elif event.kind == "revoked token":
            server.revoked_until = end
        elif event.kind == "edit by hand":
            self._edit()
        else:
            self._retry_by_hand()
        self._open -= 1

    def _edit(self) -> None:
        """Let a person make a row due with a statement of their own."""
        rows = self._world.outbox_rows
        pending = [row["id"] for row in self._world.rows() if row["status"] == "pending"]
        if not isinstance(rows, SQLiteStore) or not pending:
            return
        chosen, written = self._kernel.dice.choice(pending), self._kernel.dice.choice(_BY_HAND)
        self._world.notes.edited.add(chosen)
        with rows.writing() as connection:
            connection.execute(
                f"UPDATE buttdial_outbox SET next_retry_at = {written} WHERE id = ?",  # noqa: S608
                (chosen,),
            )

    def _retry_by_hand(self) -> None:
        """Let a person make all rows due that may be."""
        repository = TableRepository(self._world.outbox_rows, lease=LEASE)
        for row in self._world.rows():
            repository.force_retry(row["id"])

    def _end_well(self) -> None:
        """Let nothing go wrong any more, and wait until all is settled."""
        while self._open:
            self._kernel.sleep(_LOOKS_EVERY)
        world = self._world
        world.tell("world", "nothing goes wrong any more")
        world.is_calm = True
        for host in self._hosts.values():
            host.process.ahead = 0.0
        end = self._kernel.now + _SETTLED_WITHIN
        while self._kernel.now < end:
            while not self._is_settled() and self._kernel.now < end:
                self._kernel.sleep(_LOOKS_EVERY)
            # Who was stopped, and still knows something, has to say so.
            until = [host.process.group.paused_until for host in self._hosts.values()]
            self._kernel.sleep(max([0.0, *(each - self._kernel.now for each in until)]) + _GRACE)
            if self._is_settled():
                break
        self._is_over = True

    def _is_settled(self) -> bool:
        rows = (self._world.outbox_rows, self._world.inbox_rows)
        return not self._open and not any(each.count("pending") for each in rows)


def simulate(seed: int | str, tell: Tell | None = None) -> list[str]:
    """
    Run the history of a seed.

    Args:
        seed: Decides everything.
        tell: Gets the trace, line by line.

    Returns:
        The promises that were broken.
    """
    with quiet(), simulated_threads(), running(Kernel(seed)) as kernel:
        try:
            return History(kernel, tell).run()
        finally:
            forget_token_breakers()


@contextmanager
def quiet() -> Iterator[None]:
    """Let the library log nothing."""
    # What the library logs about all that goes wrong would fill disks.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
