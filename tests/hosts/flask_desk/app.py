"""A help desk that texts who has a ticket."""

from __future__ import annotations

from typing import Any

from flask import Flask

from buttdial_sync import InboundHandler, InboundMessage
from buttdial_sync.contrib.flask import ButtDial


def make_app(**config: Any) -> tuple[Flask, ButtDial]:
    """Make the application, and its extension."""
    app = Flask(__name__)
    app.config.update(config)
    inbound = InboundHandler(whatsapp_webhook_secret="app-secret")
    butt_dial = ButtDial(app, inbound=inbound)

    @app.post("/tickets/<number>/close/<to>")
    def close(number: str, to: str) -> dict[str, Any]:
        result = butt_dial.client.send_message(to, f"Ticket {number} is closed.", channel="sms")
        return {"outcome": result.outcome}

    @inbound.on_message("whatsapp")
    def answer(message: InboundMessage) -> None:
        butt_dial.client.send_message(message.sender, "A ticket was opened.")

    return app, butt_dial
