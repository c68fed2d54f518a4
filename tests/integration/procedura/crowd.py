"""Many threads on one connection, with calls and streams mixed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

from buttdial_sync.procedura import Finished, RemoteAgent, Started
from buttdial_sync.testing import Addressing, FakeProceduraServer

THREADS = 32
_PATIENCE = 60.0  # a loaded machine is slow, and only what is lost or swapped counts here


def steps(args: list[str]) -> Generator[dict[str, Any], None, Any]:
    """A module that tells its arguments back twice, and then again as its result."""
    yield {"said": args}
    yield {"said": args}
    return args


def one_round(server: FakeProceduraServer, agent: RemoteAgent, calls: int) -> list[str]:
    """
    Let 32 threads make calls and streams.

    Args:
        server: Gets the modules.
        agent: Makes the calls.
        calls: Of each thread.

    Returns:
        What went wrong.
    """
    server.module("echo", lambda args: args)
    server.module("steps", steps)
    wrong: list[str] = []

    def work(thread: int) -> None:
        for number in range(calls):
            said = [f"{thread}-{number}"]
            try:
                if number % 2:
                    got: Any = agent.run("echo", said, ack_timeout=_PATIENCE)
                else:
                    got = _streamed(agent, said)
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                wrong.append(repr(error))
            else:
                if got != said:
                    wrong.append(f"{got} instead of {said}")

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * _PATIENCE)
    wrong += [f"{thread.name} hangs" for thread in threads if thread.is_alive()]
    return wrong


def _streamed(agent: RemoteAgent, said: list[str]) -> Any:
    first, *running, last = agent.stream("steps", said, ack_timeout=_PATIENCE)
    complete = (
        isinstance(first, Started)
        and [event.raw["said"] for event in running] == [said, said]
        and isinstance(last, Finished)
    )
    return last.result if complete and isinstance(last, Finished) else [first, *running, last]


def rounds(addressing: Addressing, count: int, calls: int) -> list[str]:
    """Do rounds with one server and one connection; return what went wrong."""
    with FakeProceduraServer(addressing=addressing) as server:
        with RemoteAgent(server.url, token_store=None) as agent:
            wrong = [each for _ in range(count) for each in one_round(server, agent, calls)]
        if server.connections != 1:
            wrong.append(f"{server.connections} connections")
    return wrong
