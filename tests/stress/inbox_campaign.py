"""
``kill -9`` at random moments, while messages come by webhook, push and queue.

``python -m tests.stress.inbox_campaign --store django-postgresql --dialect hosted`` prints what was
lost, and what was handled more than once, of 3,000 messages and 40 kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.fake import FakeServer
from tests.integration.retry.postgres import running
from tests.stress.inbox_project import PREFIX

ROOT = Path(__file__).resolve().parents[2]
SENDERS = 50
PATIENCE = 120.0
STORES = ("sqlite", "postgresql", "django-sqlite", "django-postgresql")
WAYS = ("webhook", "push", "queue")


@attrs.frozen(kw_only=True)
class Figures:
    """
    What came of a campaign.

    Attributes:
        sent: How many messages were given to each way; a push that nobody heard counts as queue.
        lost: Those that were neither handled nor are in the inbox, by way.
        emptied: How many the server threw away when a stream was opened, as its dialect does.
        kills: How many processes were killed.
        twice: Handled to success more than once, by a process that was not killed meanwhile.
        died_inside: Handled again because the process that handled them was killed before it could
            record that.
        dead: Given up.
        out_of_order: Successes of one sender that came before an earlier message's.
    """

    sent: dict[str, int]
    lost: dict[str, int]
    emptied: int
    kills: int
    twice: int
    died_inside: int
    dead: int
    out_of_order: int


class Victims:
    """The processes that take in messages; each is replaced when it is killed."""

    def __init__(
        self, url: str, database: str, log: str, *, count: int, lease: float, failures: float
    ) -> None:
        self._arguments = (url, database, log)
        self._lease = lease
        self._failures = failures
        self._is_alone = count == 1
        self.killed: set[int] = set()
        self.kills = 0
        self.running = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> tuple[subprocess.Popen[str], int]:
        # Who runs alone need not wait for the leases of those that were killed: its clock is ahead.
        hours = self.kills if self._is_alone else 0
        options = map(str, (self._lease, hours, self._failures))
        arguments = (*self._arguments, f"tok-{number}", *options)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stress.inbox_victim", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    def kill(self, number: int) -> None:
        process, _ = self.running[number]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.killed.add(process.pid)
        self.kills += 1
        self.running[number] = self._start(number)

    def end(self) -> None:
        for process, _ in self.running:
            process.communicate("", timeout=PATIENCE)


def post(port: int, payload: dict[str, Any]) -> bool:
    """Post a webhook as the servers do; whether it was accepted."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/butt-dial/",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def payload_of(number: int) -> dict[str, Any]:
    return {
        "type": "message",
        "messageId": f"m{number}",
        "agentId": "agent-1",
        "channel": "sms",
        "from": f"+{number % SENDERS}",
        "to": "+2",
        "body": f"m{number}",
    }


def send(fake: FakeServer, victims: Victims, number: int, dice: random.Random) -> str:
    """Send a message in one way; return which."""
    payload = payload_of(number)
    way = WAYS[number % len(WAYS)]
    if way == "webhook":
        # Whoever gets no answer, or not 200, tries again: perhaps at another worker.
        while not post(dice.choice(victims.running)[1], payload):
            time.sleep(0.02)
        return way
    token = f"tok-{dice.randrange(len(victims.running))}"
    if way == "push" and fake.push(payload, token):
        return way
    if way == "queue" or fake.dialect == "hosted":
        waiting = {key: value for key, value in payload.items() if key not in {"type", "messageId"}}
        fake.add_waiting(externalId=payload["messageId"], **waiting)
    return "queue"


def campaign(
    dialect: Any,
    database: str,
    *,
    messages: int,
    kills: int,
    processes: int,
    seed: int,
    lease: float = 5.0,
    failures: float = 0.2,
) -> Figures:
    """Run it, and return what came of it."""
    dice = random.Random(seed)
    folder = tempfile.mkdtemp()
    log = f"{folder}/log"
    Path(log).touch()
    prepare(database)
    ways: dict[str, str] = {}
    kill_at = set(dice.sample(range(messages // 10, messages), kills))
    with FakeButtDialServer(dialect=dialect).listen() as server:
        victims = Victims(
            server.base_url, database, log, count=processes, lease=lease, failures=failures
        )
        for number in range(messages):
            ways[f"m{number}"] = send(server.fake, victims, number, dice)
            if number in kill_at:
                killer = threading.Thread(target=victims.kill, args=(dice.randrange(processes),))
                killer.start()
                killer.join()
        _wait_until_quiet(server.fake, database)
        victims.end()
        emptied = server.fake.core.waiting.lost
    return _figures(ways, _lines(log), database, victims, emptied)


def _wait_until_quiet(fake: FakeServer, database: str) -> None:
    """Wait until nothing waits on the server and nothing is pending in the inbox."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and (fake.waiting or state_of(database)["stats"]["pending"]):
        time.sleep(0.2)


def state_of(database: str) -> dict[str, Any]:
    """Look into the inbox, from a process of its own: Django is configured once in each."""
    found: dict[str, Any] = json.loads(_run("tests.stress.inbox_victim", "state", database))
    return found


def prepare(database: str) -> None:
    """Make the table before several processes want to."""
    if database.startswith(PREFIX):
        _run("tests.stress.inbox_project", database)
    else:
        state_of(database)


def _run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    ).stdout


def _lines(log: str) -> list[list[str]]:
    return [line.split() for line in Path(log).read_text("ascii").splitlines()]


def _figures(
    ways: dict[str, str], lines: Sequence[list[str]], database: str, victims: Victims, emptied: int
) -> Figures:
    ends = [(name, int(pid)) for word, name, pid in lines if word == "ends"]
    times = Counter(name for name, _ in ends)
    # The first success of a message counts as lost knowledge only if its process was killed.
    excused = Counter(name for name, pid in ends if pid in victims.killed)
    again = {name: count - 1 for name, count in times.items() if count > 1}
    died_inside = sum(min(count, excused[name]) for name, count in again.items())
    state = state_of(database)
    known = set(state["known"])
    lost = Counter(way for name, way in ways.items() if name not in times and name not in known)
    return Figures(
        sent=dict(Counter(ways.values())),
        lost=dict(lost),
        emptied=emptied,
        kills=victims.kills,
        twice=sum(again.values()) - died_inside,
        died_inside=died_inside,
        dead=state["stats"]["dead"],
        out_of_order=_out_of_order(ends),
    )


def _out_of_order(ends: Sequence[tuple[str, int]]) -> int:
    """Count webhooks of a sender that were handled before an earlier webhook of that sender."""
    last: dict[int, int] = {}
    wrong = 0
    for name in dict.fromkeys(name for name, _ in ends):
        number = int(name[1:])
        if WAYS[number % len(WAYS)] == "webhook":
            sender = number % SENDERS
            wrong += number < last.get(sender, -1)
            last[sender] = max(number, last.get(sender, -1))
    return wrong


@contextmanager
def database_of(store: str) -> Iterator[str]:
    """Make an empty database; it is deleted, or its server ended, after the block."""
    prefix = PREFIX if store.startswith("django") else ""
    if "postgresql" not in store:
        with tempfile.TemporaryDirectory() as folder:
            yield f"{prefix}{folder}/inbox.db"
        return
    with running() as address:
        yield prefix + address.split("host=")[1] if prefix else address


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--dialect", default="hosted")
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with database_of(given.store) as database:
        figures = campaign(
            given.dialect,
            database,
            messages=given.messages,
            kills=given.kills,
            processes=given.processes,
            seed=given.seed,
        )
    sys.stdout.write(json.dumps(attrs.asdict(figures), indent=2) + "\n")


if __name__ == "__main__":
    main()
