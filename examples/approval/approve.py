"""
Let a person approve something with a button on WhatsApp.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN, then:
python approve.py +14155550123 "Refund 40 EUR to Sam?" 600

The exit code is 0 for a yes, 1 for a no, and 4 when nobody answered within so many seconds.
"""

import queue
import sys
import time

from buttdial_sync import Client, InboundHandler, InboundMessage, Listener, OutcomeUnknownError

BUTTONS = {"approve": "Approve", "reject": "Reject"}
EXIT_CODES = {"approve": 0, "reject": 1, None: 4}


def choice_of(message: InboundMessage, approver: str, question_id: str | None) -> str | None:
    """Return which button a message chose, or None if it does not answer the question."""
    if message.channel != "whatsapp" or digits(message.sender) != digits(approver):
        return None
    if message.reply_to and question_id and message.reply_to != question_id:
        return None
    # A server that does not pass the button's id on passes its title, as the text.
    for button, title in BUTTONS.items():
        if message.reply_id == button or (not message.reply_id and message.text == title):
            return button
    return None


def digits(number: str) -> str:
    """Return a number as WhatsApp writes it, without the plus."""
    return "".join(filter(str.isdigit, number))


def ask(client: Client, approver: str, question: str, seconds: float) -> str | None:
    """Ask, and wait for the choice; None when there is none in time."""
    messages: queue.Queue[InboundMessage] = queue.Queue()
    inbound = InboundHandler()
    inbound.on_message(messages.put)
    limit = time.monotonic() + seconds
    # The listener comes first: a quick answer may be there before the call returns.
    with Listener(client, inbound):
        question_id: str | None = None
        try:
            buttons = [{"id": button, "title": title} for button, title in BUTTONS.items()]
            question_id = client.whatsapp.send_buttons(approver, question, buttons).message_id
        except OutcomeUnknownError:
            print("it may have been asked; waiting for an answer", file=sys.stderr)
        while (left := limit - time.monotonic()) > 0:
            try:
                choice = choice_of(messages.get(timeout=left), approver, question_id)
            except queue.Empty:
                break
            if choice:
                return choice
    return None


def main(approver: str, question: str, seconds: str) -> int:
    """Ask, say what was chosen, and return the exit code."""
    with Client.from_env() as client:
        choice = ask(client, approver, question, float(seconds))
    print(choice or "nobody answered")
    return EXIT_CODES[choice]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
