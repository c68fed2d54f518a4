"""
Let a person answer the prompts of ailoop with a tap on WhatsApp.

Set AILOOP_SERVER, BUTT_DIAL_BASE_URL, BUTT_DIAL_AGENT_TOKEN, WHATSAPP_WEBHOOK_SECRET and
WHATSAPP_VERIFY_TOKEN, then: python bridge.py 8080 +14155550123

A prompt goes out when ailoop shows it, and the tap comes back as WhatsApp's webhook at /whatsapp/.
Who did not answer within five minutes is reminded by SMS. bridge.db remembers all that, so a
restart asks nobody twice. It needs ailoop's server 1.0.8 or later.
"""

import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from socketserver import ThreadingMixIn
from typing import TypeAlias
from wsgiref.simple_server import WSGIServer, make_server

from buttdial_sync import ButtDialError, Client, InboundHandler, InboundMessage, Outbox, RetryLoop
from buttdial_sync.ailoop import (
    AiloopClient,
    AuthorizationContent,
    DecisionContent,
    Message,
    PendingPrompt,
)
from buttdial_sync.retry import SQLiteRepository

REMIND_AFTER = 300.0
SECONDS_BETWEEN_LOOKS = 1.0
LONGEST_BODY, LONGEST_TITLE, MOST_BUTTONS = 1024, 20, 3  # WhatsApp's limits
LONGEST_SMS = 300
APPROVE, DENY, OPTION = "approve", "deny", "option:"
TABLE = """CREATE TABLE IF NOT EXISTS prompts (id TEXT PRIMARY KEY, asked_at REAL NOT NULL,
    tap TEXT, is_answered INTEGER NOT NULL DEFAULT 0, is_reminded INTEGER NOT NULL DEFAULT 0)"""

Row: TypeAlias = tuple[str, float, str | None, int, int]
logger = logging.getLogger("bridge")


class Bridge:
    """Asks one person on WhatsApp what ailoop shows, and gives the answers to ailoop."""

    def __init__(
        self,
        ailoop: AiloopClient,
        client: Client,
        person: str,
        path: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ailoop, self._client, self._person, self._clock = ailoop, client, person, clock
        self._path = path
        self._repository = SQLiteRepository(path)
        self._outbox = Outbox(client, self._repository)
        self._loop = RetryLoop(self._repository, client)
        self._run(TABLE)

    def look(self) -> None:
        """Send the reminders that are due; ask, answer or remind for each prompt shown now."""
        self._loop.run_once()
        # Only a prompt that is shown can be answered. One that was answered elsewhere is not shown.
        for prompt in self._ailoop.pending():
            found = self._run("SELECT * FROM prompts WHERE id = ?", prompt.message_id)
            for _, asked_at, tap, is_answered, is_reminded in found:
                if tap and not is_answered:
                    self._answer(prompt.message_id, tap)
                elif not tap and not is_reminded and self._clock() >= asked_at + REMIND_AFTER:
                    self._remind(prompt)
            if not found:
                self._ask(prompt.message_id)

    def take(self, message: InboundMessage) -> None:
        """Write a tap down. Only the person's first one for a prompt counts."""
        if message.reply_id and digits(message.sender) == digits(self._person):
            prompt_id, _, tap = message.reply_id.partition(":")
            self._run("UPDATE prompts SET tap = ? WHERE id = ? AND tap IS NULL", tap, prompt_id)

    def close(self) -> None:
        """Close the outbox."""
        self._repository.close()

    def _ask(self, prompt_id: str) -> None:
        body, buttons = question_of(self._ailoop.get_message(prompt_id))
        # First written, then sent: buttons have no key by which the server knows a repetition.
        self._run("INSERT INTO prompts (id, asked_at) VALUES (?, ?)", prompt_id, self._clock())
        if not 1 <= len(buttons) <= MOST_BUTTONS:
            logger.warning("prompt %s does not fit on buttons; the SMS tells of it", prompt_id)
            return
        try:
            self._client.whatsapp.send_buttons(self._person, body, buttons)
        except ButtDialError as error:
            logger.warning("prompt %s: %s; the SMS tells of it", prompt_id, error)

    def _answer(self, prompt_id: str, tap: str) -> None:
        if tap == APPROVE:
            self._ailoop.respond(prompt_id, None, "authorization_approved")
        elif tap == DENY:
            self._ailoop.respond(prompt_id, None, "authorization_denied")
        else:
            self._ailoop.respond(prompt_id, tap.removeprefix(OPTION))
        self._run("UPDATE prompts SET is_answered = 1 WHERE id = ?", prompt_id)

    def _remind(self, prompt: PendingPrompt) -> None:
        text = f"Somebody waits for your answer on WhatsApp or in ailoop: {prompt.label}"
        key = f"reminder-{prompt.message_id}"
        with closing(sqlite3.connect(self._path)) as connection, connection:
            mark = "UPDATE prompts SET is_reminded = 1 WHERE id = ?"
            connection.execute(mark, (prompt.message_id,))
            # In one transaction: there is no mark without its SMS, and no second SMS.
            self._outbox.enqueue(
                self._person,
                shortened(text, LONGEST_SMS),
                "sms",
                idempotency_key=key,
                within=connection,
            )

    def _run(self, statement: str, *values: object) -> list[Row]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return connection.execute(statement, values).fetchall()


def question_of(message: Message) -> tuple[str, list[dict[str, str]]]:
    """Return a prompt's text and buttons. A button's id names the prompt and the answer."""
    content = message.content
    if isinstance(content, AuthorizationContent):
        parts = [content.action, json.dumps(content.context) if content.context else ""]
        titles = {APPROVE: "Approve", DENY: "Deny"}
    elif isinstance(content, DecisionContent):
        labels = [f"{number}. {each.label}" for number, each in enumerate(content.options, 1)]
        parts = [content.summary, *labels, content.context_markdown or ""]
        ids = [OPTION + each.id for each in content.options]
        titles = dict(zip(ids, labels, strict=True))
    else:
        return "", []
    body = "\n".join(filter(None, parts))
    buttons = [
        {"id": f"{message.id}:{answer}", "title": shortened(title, LONGEST_TITLE)}
        for answer, title in titles.items()
    ]
    return shortened(body, LONGEST_BODY), buttons


def shortened(text: str, length: int) -> str:
    """Return a text of at most this length, which shows whether something is missing."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def digits(number: str) -> str:
    """Return a number as WhatsApp writes it, without the plus."""
    return "".join(filter(str.isdigit, number))


class Server(ThreadingMixIn, WSGIServer):
    """Serves each webhook in a thread."""

    daemon_threads = True


def main(port: str, person: str) -> None:
    """Bridge until Ctrl-C."""
    logging.basicConfig(level=logging.INFO)
    inbound = InboundHandler(
        whatsapp_webhook_secret=os.environ["WHATSAPP_WEBHOOK_SECRET"],
        whatsapp_verify_token=os.environ["WHATSAPP_VERIFY_TOKEN"],
    )
    with (
        AiloopClient.from_env() as ailoop,
        Client.from_env() as client,
        closing(Bridge(ailoop, client, person, "bridge.db")) as bridge,
        make_server("127.0.0.1", int(port), inbound.wsgi(), Server) as server,
    ):
        inbound.on_message(bridge.take)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"listening on port {server.server_port}", flush=True)
        try:
            while True:
                try:
                    bridge.look()
                except ButtDialError as error:  # ailoop is down; a tap waits in bridge.db
                    logger.warning("%s", error)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            print("bye")


if __name__ == "__main__":
    main(*sys.argv[1:])
