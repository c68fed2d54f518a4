"""
How deep and how wide the ways of data are: frames, files and calls of our own package.

Each way is walked twice, warm, over a real socket, and the second walk is traced in the calling
thread. ``python -m tests.architecture.depth`` prints the table.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import attrs

import buttdial_sync
from buttdial_sync import AccountsClient, Client, InboundHandler, Outbox, RetryLoop
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer

PACKAGE = str(Path(str(buttdial_sync.__file__)).parent)
TOKEN = "agent-token-1"


@attrs.frozen
class Walk:
    """
    What one way touches.

    Attributes:
        calls: How many functions were called.
        depth: How many were on the stack at once.
        files: Where they are.
    """

    calls: int
    depth: int
    files: frozenset[str]


def traced(walk: Callable[[], object]) -> Walk:
    """Return what a way touches, in this thread."""
    stack: list[bool] = []
    calls, deepest = 0, 0
    files: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls, deepest
        if event == "call":
            name = frame.f_code.co_filename
            ours = name.startswith(PACKAGE)
            stack.append(ours)
            if ours:
                calls += 1
                files.add(name.removeprefix(PACKAGE))
                deepest = max(deepest, sum(stack))
        elif event == "return" and stack:
            stack.pop()

    sys.setprofile(profile)
    try:
        walk()
    finally:
        sys.setprofile(None)
    return Walk(calls=calls, depth=deepest, files=frozenset(files))


@contextmanager
def ways() -> Iterator[dict[str, Callable[[], object]]]:
    """Offer the ways to walk, over a server on this machine."""
    fake = FakeButtDialServer(tokens=[TOKEN, "team-token"])
    fake.on_rest("POST", "/api/v1/agents", {"agentId": "a-1", "token": "t"})
    with ExitStack() as stack:
        server = stack.enter_context(fake.listen())
        client = stack.enter_context(Client(server.base_url, agent_token=TOKEN))
        accounts = stack.enter_context(AccountsClient(server.base_url, team_token="team-token"))
        folder = stack.enter_context(TemporaryDirectory())
        repository = SQLiteRepository(Path(folder) / "outbox.db")
        stack.callback(repository.close)
        inbound = InboundHandler(allow_unsigned=["butt-dial"])
        inbound.on_message(lambda _: None)
        outbox = Outbox(client, repository)
        loop = RetryLoop(repository, client, batch_size=1)
        for _ in range(2):
            outbox.enqueue("+14155550123", "text", "sms")
        yield {
            "send": lambda: client.send_message("+14155550123", "text", "sms"),
            "tool": lambda: client.whatsapp.react("m-1", "x"),
            "account call": lambda: accounts.register_agent("a-1", "Agent"),
            "run_once": loop.run_once,
            "webhook": lambda: _post(inbound),
        }


def _post(inbound: InboundHandler) -> None:
    """Hand a handler a message that it has not seen."""
    body = {"messageId": str(uuid.uuid4()), "channel": "sms", "from": "+1", "to": "+2", "body": "x"}
    assert inbound.handle("butt-dial", json.dumps(body).encode(), {}).status == 200


def measure() -> dict[str, Walk]:
    """Walk each way twice, and return what the second walk touched."""
    found = {}
    with ways() as known:
        for name, walk in known.items():
            walk()
            found[name] = traced(walk)
    return found


if __name__ == "__main__":
    for name, walk in measure().items():
        line = f"{name:<14}{walk.calls:>5} calls{walk.depth:>4} deep{len(walk.files):>4} files"
        sys.stdout.write(f"{line}\n")
        if "-v" in sys.argv:
            sys.stdout.write("".join(f"    {each}\n" for each in sorted(walk.files)))
