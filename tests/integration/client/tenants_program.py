"""A worker of a host with many tenants: python tenants_program.py TOKEN..."""

from __future__ import annotations

import json
import sys
import time

from buttdial_sync import Client

slept: list[float] = []


def sleep(seconds: float) -> None:
    """Note a pause, and make it."""
    slept.append(seconds)
    time.sleep(seconds)


with Client.from_env(timeout=60.0, sleep=sleep) as client:
    told = []
    for round_number in range(3):
        for token in sys.argv[1:]:
            slept.clear()
            result = client.as_agent(token).send_message("+14155550123", str(round_number), "sms")
            told.append((token, result.outcome, result.error_code, result.attempts, sum(slept)))
sys.stdout.write(json.dumps(told))
