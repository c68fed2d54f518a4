"""
Compare what a client says with what the server did.

Many threads send over clients that are closed and replaced, to a server whose connections, streams
and answers fail at random in every way that the fake knows. Afterwards each message's outcome is
compared with how often the server carried it out::

    python -m tests.stress.honesty --calls 100000

The server counts in the tool itself, so whatever happens on the way there and back does not matter.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

from buttdial_sync import Client, ClientClosedError
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer, ToolFailure
from buttdial_sync.testing.dialects import DialectName
from tests.fakes import cut_streams, forget_sessions

TO = "+14155550123"
ROUND = 5_000  # the fake keeps all requests, so it is replaced now and then
HUNG_AFTER = 120.0
LATE = 0.5
STATUSES = (400, 404, 408, 413, 429, 499, 500, 502, 503, 504)
REFUSAL = {"error": "starting", "retryable": True}
FORGOTTEN = {"error": "Session not found"}
PAGE = "<html><body><h1>Error</h1></body></html>"
# How often the server carries a message out, for each outcome that a client may report.
HONEST = {"sent": {1}, "rejected": {0}, "not_sent": {0}, "unknown": {0, 1}}


@attrs.frozen
class Report:
    """
    What a client said about a message, and for how long it was asked.

    Attributes:
        body: The text, which no other message has.
        outcome: The result's, or the one of a :class:`ClientClosedError`.
        message_sid: The id that the client gives for it.
        late: Seconds over the call's ``timeout``.
    """

    body: str
    outcome: str
    message_sid: str | None
    late: float


@attrs.define
class Server:
    """Counts how often each message is carried out."""

    loopback: LoopbackServer
    executed: Counter[str] = attrs.field(factory=Counter)
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def send(self, arguments: Any) -> Any:
        """Carry a message out, or refuse it."""
        body = str(arguments["body"])
        if body.endswith("refuse"):
            return ToolFailure("Recipient has not consented")
        with self.lock:
            self.executed[body] += 1
        return {"messageId": f"id-{body}"}


class Campaign:
    """
    One round: a server, its clients, and the threads that send.

    Args:
        seed: What the choices of the threads begin with.
        dialect: The hosted server honours keys, the open-source one does not.
        threads: How many send at the same time.
        longest: The longest ``timeout`` of a call, in seconds.
    """

    def __init__(self, seed: str, dialect: DialectName, threads: int, longest: float) -> None:
        self._seed = seed
        self._dialect = dialect
        self._threads = threads
        self._longest = longest
        self._reports: list[Report] = []
        self._clients: list[Client] = []
        self._done = threading.Event()

    def run(self, calls: int) -> tuple[list[Report], Counter[str]]:
        """Send so many messages; return what was said of them, and what was carried out."""
        with FakeButtDialServer(dialect=self._dialect).listen() as loopback:
            server = Server(loopback)
            loopback.fake.on_tool("comms_send_message", server.send)
            self._clients = [self._make_client(loopback, n) for n in range(4)]
            senders = [
                threading.Thread(target=self._send, args=(loopback, n, calls // self._threads))
                for n in range(self._threads)
            ]
            chaos = threading.Thread(target=self._disturb, args=(loopback,))
            for thread in (*senders, chaos):
                thread.daemon = True
                thread.start()
            for thread in senders:
                thread.join(HUNG_AFTER + calls)
            self._done.set()
            chaos.join(HUNG_AFTER)
            if any(thread.is_alive() for thread in (*senders, chaos)):
                sys.exit("HUNG: a call does not end")
            for client in self._clients:
                client.close()
        return self._reports, server.executed

    def _make_client(self, loopback: LoopbackServer, number: int) -> Client:
        return Client(
            loopback.base_url,
            agent_token=f"tok-{number}",
            sleep=lambda seconds: time.sleep(seconds / 50),
        )

    def _send(self, loopback: LoopbackServer, thread: int, calls: int) -> None:
        chance = random.Random(f"{self._seed}-{thread}")
        for number in range(calls):
            kind = "refuse" if chance.random() < 0.03 else "take"
            body = f"{thread}-{number}-{kind}"
            if chance.random() < 0.4:
                self._set_a_fault(loopback, chance)
            timeout = chance.uniform(0.1, self._longest)
            client = chance.choice(self._clients)
            began = time.monotonic()
            try:
                result = client.send_message(TO, body, timeout=timeout)
                outcome, sid = result.outcome, result.message_sid
            except ClientClosedError as error:
                outcome, sid = error.outcome, None
            late = time.monotonic() - began - timeout
            self._reports.append(Report(body, outcome, sid, late))

    def _set_a_fault(self, loopback: LoopbackServer, chance: random.Random) -> None:
        fault, carried_out = loopback.fake.fault, chance.random() < 0.5
        place: Any = chance.choice(["call", "call", "call", "post", "stream"])
        posted: Any = "post" if place == "stream" else place
        faults: list[Callable[[], None]] = [
            lambda: fault("refuse", on=place),
            lambda: fault("reset", on=posted, delivered=carried_out),
            lambda: fault("hang", on=posted, delivered=carried_out),
            lambda: fault("html", on=posted, status=chance.choice((200, *STATUSES))),
            lambda: fault("status", on="stream", status=chance.choice(STATUSES), body=PAGE),
            lambda: fault(
                "status",
                on=posted,
                status=chance.choice(STATUSES),
                body=chance.choice([PAGE, "", "busy", {"message": "Service Unavailable"}]),
                delivered=carried_out,
            ),
            lambda: fault("status", on=posted, status=503, body=REFUSAL),
            lambda: fault("status", on=posted, status=404, body=FORGOTTEN),
            lambda: fault("cut", on=posted, delivered=carried_out),
            lambda: fault("cut", on=posted, partial=True),
            lambda: fault("cut", on=posted, clean=True, delivered=carried_out),
            lambda: fault("silence", on=posted, delivered=carried_out),
            lambda: fault("late", on=posted),
        ]
        chance.choice(faults)()

    def _disturb(self, loopback: LoopbackServer) -> None:
        chance = random.Random(f"{self._seed}-chaos")
        while not self._done.wait(chance.uniform(0.0, 0.1)):
            loopback.fake.release()
            what = chance.random()
            if what < 0.1:
                cut_streams(loopback.fake, clean=chance.random() < 0.5)
            elif what < 0.2:
                forget_sessions(loopback.fake)
            elif what < 0.3:
                number = chance.randrange(len(self._clients))
                closed, self._clients[number] = (
                    self._clients[number],
                    self._make_client(loopback, number),
                )
                closed.close(0.0)
        loopback.fake.release()


def lies(reports: list[Report], executed: Counter[str]) -> list[str]:
    """Return what was said and is not true, in words."""
    found = []
    for report in reports:
        times = executed[report.body]
        if times not in HONEST[report.outcome]:
            found.append(f"{report.body}: {report.outcome}, but carried out {times} times")
        elif report.outcome == "sent" and report.message_sid != f"id-{report.body}":
            found.append(f"{report.body}: got the answer {report.message_sid}")
    asked = {report.body for report in reports}
    return found + [
        f"{body}: carried out, but nobody asked" for body in executed if body not in asked
    ]


def main() -> int:
    """Run the campaign that the command line describes, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a call at most")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    late: list[float] = []
    began, number = time.monotonic(), 0
    while sum(outcomes.values()) < options.calls:
        dialect: DialectName = "hosted" if number % 2 else "open-source"
        campaign = Campaign(f"{options.seed}-{number}", dialect, options.threads, options.longest)
        left = options.calls - sum(outcomes.values())
        reports, executed = campaign.run(max(min(ROUND, left), options.threads))
        for report in reports:
            outcomes[f"{report.outcome}, carried out {executed[report.body]}x"] += 1
        wrong += lies(reports, executed)
        late += [report.late for report in reports if report.late > LATE]
        number += 1
        print(f"round {number}: {sum(outcomes.values())} calls, {len(wrong)} lies", flush=True)  # noqa: T201
    figures = [f"{count:>8} {name}" for name, count in sorted(outcomes.items())]
    print(*figures, *wrong, sep="\n")  # noqa: T201
    print(f"{len(late)} more than {LATE} s late, {max(late, default=0.0):.2f} s at most")  # noqa: T201
    print(f"{time.monotonic() - began:.0f} s")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
