"""An agent that is paused here, and a loop that runs in another process."""

from __future__ import annotations

from pathlib import Path

from buttdial_sync import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer
from tests.integration.retry.test_kill import SECONDS, pipe
from tests.stress.outbox_campaign import victim


def test_a_loop_in_another_process_sees_a_pause(tmp_path: Path) -> None:
    """Its messages wait while those behind them go, until somebody here lets them go on."""
    file = tmp_path / "outbox.db"
    with SQLiteRepository(file) as repository, FakeButtDialServer().listen() as server:
        fake = server.fake

        def bodies() -> list[str | None]:
            return [call.body for call in fake.delivered]

        def add(name: str, agent_id: str | None) -> None:
            message = FailedMessage(id=name, recipient="+1", body=name, agent_id=agent_id)
            repository.add(message)

        with victim(server.base_url, str(file), 60.0, 0.0) as process:
            assert pipe(process.stdout).readline() == "ready\n"
            pipe(process.stdin).write("\n")
            pipe(process.stdin).flush()
            add("before", "agent-1")
            assert fake.wait_for(lambda: bodies() == ["before"], SECONDS)
            assert repository.pause("agent-1", reason="their number changes")
            add("paused", "agent-1")
            add("another", None)
            assert fake.wait_for(lambda: len(bodies()) == 2, SECONDS)
            assert bodies() == ["before", "another"]
            assert repository.resume("agent-1")
            assert fake.wait_for(lambda: bodies()[2:] == ["paused"], SECONDS)
            process.communicate(timeout=SECONDS)
