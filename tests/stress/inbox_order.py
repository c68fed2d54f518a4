"""
The order of each sender, and the memory, while many threads hand over what an inbox holds.

``python -m tests.stress.inbox_order --messages 10000 --senders 1000 --workers 8`` prints figures.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections import defaultdict

from buttdial_sync import InboundHandler, InboundMessage, Inbox, SQLiteInbox
from buttdial_sync.listening.inbox_worker import HandingOver, drain_inbox

PAGE = 10


def fill(inbox: Inbox, messages: int, senders: int) -> None:
    """Write messages as a listener does: page by page."""
    for start in range(0, messages, PAGE):
        inbox.write(
            [
                InboundMessage(
                    id=f"m{number}", sender=f"+{number % senders}", channel="sms", text=str(number)
                )
                for number in range(start, min(start + PAGE, messages))
            ]
        )


def hand_over(inbox: Inbox, workers: int) -> tuple[dict[str, list[int]], int]:
    """Hand all of it over; return what each sender's handler got, and how far memory grew."""
    got: dict[str, list[int]] = defaultdict(list)
    lock = threading.Lock()
    inbound = InboundHandler()
    before = 0
    count = 0

    @inbound.on_message
    def keep(message: InboundMessage) -> None:
        nonlocal before, count
        with lock:
            got[message.sender].append(int(message.text))
            count += 1
            if count == PAGE * PAGE:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    drain_inbox(HandingOver(inbox=inbox, inbound=inbound, workers=workers))
    return got, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--senders", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    with SQLiteInbox(f"{tempfile.mkdtemp()}/inbox.db") as inbox:
        began = time.monotonic()
        fill(inbox, given.messages, given.senders)
        written = time.monotonic()
        got, grown = hand_over(inbox, given.workers)
        ended = time.monotonic()
    wrong = sum(numbers != sorted(numbers) for numbers in got.values())
    total = sum(map(len, got.values()))
    sys.stdout.write(
        f"{total} handled of {given.messages}, {len(got)} senders, {wrong} out of order, "
        f"{grown} KiB more memory, written in {written - began:.1f} s, "
        f"handled in {ended - written:.1f} s\n"
    )


if __name__ == "__main__":
    main()
