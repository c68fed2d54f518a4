"""
A shop that answers the messages of its customers.

Set BUTT_DIAL_BASE_URL, BUTT_DIAL_AGENT_TOKEN, WHATSAPP_VERIFY_TOKEN and WHATSAPP_WEBHOOK_SECRET,
then, in examples/flask_app: flask run
"""

import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from flask import Flask, request

from buttdial_sync import (
    AgentInfo,
    AgentNotFound,
    InboundHandler,
    InboundMessage,
    OverviewSnapshot,
    SQLiteDeliveryLog,
    SQLiteInbox,
)
from buttdial_sync.contrib.flask import ButtDial
from buttdial_sync.retry import SQLiteRepository

DATA = Path(os.environ.get("SHOP_DATA", Path(__file__).parent))

inbound = InboundHandler(
    whatsapp_verify_token=os.environ.get("WHATSAPP_VERIFY_TOKEN"),
    whatsapp_webhook_secret=os.environ.get("WHATSAPP_WEBHOOK_SECRET"),
    account_webhook_secret=os.environ.get("ACCOUNT_WEBHOOK_SECRET"),
    delivery_log=SQLiteDeliveryLog(DATA / "deliveries.sqlite3"),  # all workers share it
)


class Agents:
    """The shop's only agent, which is always on."""

    def list_agents(self) -> Sequence[AgentInfo]:
        """Return it."""
        return [AgentInfo(id="shop", name="The shop", has_token=True)]

    def overview_snapshot(self) -> OverviewSnapshot:
        """Return the counts."""
        return OverviewSnapshot(agents_provisioned=1)

    def activate(self, agent_id: str) -> AgentInfo:
        """Return the agent, which is active."""
        if agent_id != "shop":
            raise AgentNotFound(agent_id)
        return self.list_agents()[0]

    def deactivate(self, agent_id: str) -> AgentInfo:
        """Refuse: there is no other."""
        raise AgentNotFound(agent_id)


def is_operator() -> bool:
    """Let in who knows the operators' token; nobody where there is none."""
    token = os.environ.get("OPERATOR_TOKEN", "")
    given = request.headers.get("Authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


app = Flask(__name__)
butt_dial = ButtDial(
    app,
    inbound=inbound,
    inbox=SQLiteInbox(DATA / "inbox.sqlite3"),  # for "flask buttdial listen" and "poll"
    directory=Agents(),
    failed_messages=SQLiteRepository(DATA / "failed.sqlite3"),
    permission=is_operator,
)


@inbound.on_message()
def answer(message: InboundMessage) -> None:
    """Answer a message. When that fails, raise: the sender tries again later."""
    result = butt_dial.client.send_message(
        message.sender,
        f"We got your message: {message.text}",
        channel="whatsapp",
        reply_msg_id=message.id,
        idempotency_key=f"answer-{message.channel}-{message.id}",
    )
    if result.failed:
        raise RuntimeError(result.error)
