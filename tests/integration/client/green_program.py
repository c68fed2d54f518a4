"""A program of greenlets: python green_program.py eventlet|gevent early|late."""

from __future__ import annotations

import importlib
import sys

kind, moment = sys.argv[1:]
if kind == "gevent":
    patch = importlib.import_module("gevent.monkey").patch_all
    pool = importlib.import_module("gevent.pool").Pool(8)
else:
    eventlet = importlib.import_module("eventlet")
    patch, pool = eventlet.monkey_patch, eventlet.GreenPool(8)
if moment == "early":
    patch()

from buttdial_sync import Client  # noqa: E402 - the order is what is tested

client = Client.from_env(timeout=60.0)
if moment == "late":
    patch()


def send(number: int) -> str | None:
    """Send a message, and return its id."""
    return client.send_message("+1", f"green-{number}").message_sid


sent = list(pool.imap(send, range(40)))
client.close()
assert sent == [f"id-green-{number}" for number in range(40)], sent
