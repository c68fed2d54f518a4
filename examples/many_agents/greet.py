"""
Speak for many agents through one client.

Set BUTT_DIAL_BASE_URL, put the agents' tokens into agents.json (readable by you only), then:
python greet.py agents.json +14155550123
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from buttdial_sync import Client


def greet(client: Client, to: str, agent: tuple[str, str]) -> str:
    """Send one agent's greeting, and say what became of it."""
    name, token = agent
    # A refused token is a result too. It is about this agent only: the others go on.
    result = client.as_agent(token).send_message(to, f"{name} says hello.", channel="sms")
    return f"{name}: {result.message_sid if result.ok else f'{result.outcome}: {result.error}'}"


def main(agents_file: str, to: str) -> None:
    """Let all agents send at the same time."""
    agents: dict[str, str] = json.loads(Path(agents_file).read_text("utf-8"))
    with Client.from_env() as client, ThreadPoolExecutor(max_workers=8) as pool:
        for line in pool.map(partial(greet, client, to), agents.items()):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
