"""Write a message into the outbox and have a worker send it: see outbox.py."""

import sys
from contextlib import closing

from outbox import make_repository, tasks

from buttdial_sync import Client, Outbox

if __name__ == "__main__":
    with Client.from_env() as client, closing(make_repository()) as repository:
        message = Outbox(client, repository).enqueue(sys.argv[1], sys.argv[2], channel="sms")
        # After the row is committed. Were this to fail, the next sweep would find the row.
        tasks.deliver_soon(message)
        print(message.id)
