"""
The published SDK's example "with-inbound", moved: a FastAPI program that sends and receives.

Set WA_VERIFY_TOKEN and WA_WEBHOOK_SECRET. WhatsApp posts to /api/webhook/whatsapp and Butt-Dial to
/api/webhook/butt-dial.

    uvicorn inbound_app:app --port 8000
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from buttdial_sync import Client, DeliveryReceipt, InboundHandler, InboundMessage

client = Client.from_env()
handler = InboundHandler(
    whatsapp_verify_token=os.environ["WA_VERIFY_TOKEN"],
    whatsapp_webhook_secret=os.environ["WA_WEBHOOK_SECRET"],
    # Butt-Dial does not sign its own messages: without this each of them is answered with 401.
    allow_unsigned=["butt-dial"],
)


@handler.on_message()
def on_any_message(message: InboundMessage) -> None:
    """Show it."""
    print(f"inbound {message.channel}: {message.sender} -> {message.text!r}", flush=True)


@handler.on_message(channel="whatsapp")
def on_whatsapp(message: InboundMessage) -> None:
    """Answer it. A handler runs in a thread, so it may block."""
    client.send_message(to=message.sender, body=f"you said: {message.text}", channel="whatsapp")


@handler.on_delivery_receipt()
def on_receipt(receipt: DeliveryReceipt) -> None:
    """Show it."""
    print(f"receipt: {receipt.message_sid} -> {receipt.status}", flush=True)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the client when the server ends."""
    yield
    client.close()


app = FastAPI(title="sends and receives", lifespan=lifespan)
app.mount("/api/webhook", handler.asgi())


@app.get("/send")
def send(to: str, body: str = "Hello from the example") -> dict[str, Any]:
    """Send a message. FastAPI runs a plain function in a thread."""
    result = client.send_message(to=to, body=body)
    return {
        "ok": result.ok,
        "message_sid": result.message_sid,
        "error": result.error,
        "remediation": result.remediation,
    }
