"""
Answer every message that comes in.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN, then: python answer.py --once

With --once it answers what waits and ends, for cron. Without, it listens until Ctrl-C.
"""

import logging
import sys

from buttdial_sync import Client, DeliveryReceipt, InboundHandler, InboundMessage, Listener


def make_handler(client: Client) -> InboundHandler:
    """Say what is to be done with what comes in."""
    inbound = InboundHandler()

    @inbound.on_message
    def answer(message: InboundMessage) -> None:
        print(f"{message.sender}: {message.text}", flush=True)
        text = f"You said: {message.text}"
        # The message's id as the key: handled again after a crash, it is not answered twice.
        key = f"answer-{message.id}" if message.id else None
        if message.channel not in {"sms", "whatsapp"}:
            return
        result = client.send_message(message.sender, text, message.channel, idempotency_key=key)
        if result.failed:
            raise RuntimeError(result.error)  # the listener hands the message over again

    @inbound.on_delivery_receipt
    def receipt(event: DeliveryReceipt) -> None:
        print(f"{event.message_sid}: {event.status}", flush=True)

    return inbound


def main(*options: str) -> None:
    """Listen, or answer what waits."""
    logging.basicConfig(level=logging.INFO)
    with Client.from_env() as client:
        listener = Listener(client, make_handler(client))
        if "--once" in options:
            print(f"{listener.poll()} handled")
            return
        try:
            listener.run()
        except KeyboardInterrupt:
            print("bye")


if __name__ == "__main__":
    main(*sys.argv[1:])
