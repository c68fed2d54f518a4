"""The client of this project."""

from __future__ import annotations

from buttdial_sync import Client
from tests.benchmarks.contender import BODY, CHANNEL, TO, TOKEN


class Ours:
    """One client for the whole process, shared by its threads."""

    def __init__(self, base_url: str) -> None:
        self._client = Client(base_url, agent_token=TOKEN)

    def send(self, count: int) -> None:
        """Send messages, one after the other."""
        for _ in range(count):
            result = self._client.send_message(TO, BODY, CHANNEL)
            assert result.ok, result

    def crowd(self, size: int, each: int) -> None:
        """Send from so many threads at once."""
        # Only here, so that it does not count as memory of a process that merely sends.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(size) as pool:
            list(pool.map(self.send, [each] * size))

    def close(self) -> None:
        """Close the client."""
        self._client.close()
