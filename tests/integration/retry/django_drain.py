"""Drains an outbox of Django's on PostgreSQL at PORT: ``django_drain.py URL``."""

from __future__ import annotations

import json
import os
import sys

from buttdial_sync import Client, FailedMessage, RetryLoop
from tests.integration.contrib.bare_project import postgresql, set_up_django


def main(url: str) -> dict[str, int]:
    """Write COUNT messages and send them."""
    port = os.environ["PORT"]
    set_up_django(postgresql("127.0.0.1", PORT=port, DISABLE_SERVER_SIDE_CURSORS=True))
    from django.db import connections

    from buttdial_sync.contrib.django.repository import DatabaseRepository

    repository = DatabaseRepository()
    names = [f"m{number}" for number in range(int(os.environ["COUNT"]))]
    repository.add_new([FailedMessage(id=name, recipient="+1", body=name) for name in names])
    with Client(url, agent_token="tok") as client:
        report = RetryLoop(repository, client, workers=4, batch_size=5).drain()
    connections.close_all()
    return {"delivered": report.delivered, "errors": report.errors}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
