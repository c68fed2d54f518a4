"""A Celery application with one Happy client; run as a program it asks for 6 tasks."""

from __future__ import annotations

import os
import sys

from celery import Celery, group

from buttdial_sync.happy import HappyClient

folder = os.environ["CELERY_FOLDER"]
app = Celery("happy_celery", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
client = HappyClient.from_env()
client.list_machines()


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(prompt: str) -> str:
    """Let an agent work, and return what it says."""
    return client.run_task("machine-1", "/repo", prompt).text


if __name__ == "__main__":
    answers = group(ask.s(str(number)) for number in range(6)).apply_async()
    sys.stdout.write("queued\n")
    sys.stdout.flush()
    sys.stdout.write("\n".join(map(str, answers.get(timeout=90))))
