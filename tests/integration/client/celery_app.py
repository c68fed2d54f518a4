"""A Celery application with one client; run as a program it asks for 20 messages."""

from __future__ import annotations

import os
import sys

from celery import Celery, group

from buttdial_sync import Client

folder = os.environ["CELERY_FOLDER"]
app = Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
client = Client.from_env()


@app.task(name="send")  # type: ignore[untyped-decorator]
def send(body: str) -> str | None:
    """Send one message and return its id."""
    return client.send_message("+1", body).message_sid


if __name__ == "__main__":
    answers = group(send.s(str(number)) for number in range(20)).apply_async()
    sys.stdout.write("queued\n")
    sys.stdout.flush()
    sys.stdout.write("\n".join(map(str, answers.get(timeout=90))))
