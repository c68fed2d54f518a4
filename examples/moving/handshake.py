"""
The published SDK's example "with-onboarding-handshake", moved.

A customer signs up and gets a workspace. Its token comes by a signed webhook when the owner has
followed the link in the mail. Set BUTT_DIAL_BASE_URL, and PUBLIC_URL to this program's address.

    uvicorn handshake:app --port 8000
"""

import os
import uuid
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from buttdial_sync import AccountsClient, AccountVerified, InboundHandler

PUBLIC_URL = os.environ["PUBLIC_URL"]
BRANDING = {
    "logoUrl": "https://acme.example/logo-mark.svg",
    "primaryColor": "#00C9A7",
    "productName": "Acme",
    "supportEmail": "support@acme.example",
}
MAIL = {
    "subject": "Verify your Acme workspace",
    "html": '<p>Click <a href="{{verifyUrl}}">here</a> to activate {{orgName}}.</p>',
}


@dataclass
class Workspace:
    """A row of your database; its secrets belong into a vault."""

    id: str
    org_id: str
    poll_token: str | None = field(repr=False)
    webhook_secret: str | None = field(repr=False)
    team_token: str | None = field(default=None, repr=False)


class Signup(BaseModel):
    """What the customer writes."""

    name: str
    email: str


WORKSPACES: dict[str, Workspace] = {}

accounts = AccountsClient.from_env(team_token=None)  # registering needs no token
app = FastAPI(title="onboarding")


def workspace_of(org_id: str) -> Workspace | None:
    """Find a workspace by its id at Butt-Dial."""
    return next((each for each in WORKSPACES.values() if each.org_id == org_id), None)


def webhook_secret(org_id: str) -> str | None:
    """Return the secret that a webhook about a workspace has to be signed with."""
    workspace = workspace_of(org_id)
    return None if workspace is None else workspace.webhook_secret


inbound = InboundHandler(account_webhook_secret=webhook_secret)


@inbound.on_account_verified
def keep_token(event: AccountVerified) -> None:
    """Keep the token. Signature, age and repetition were checked before."""
    workspace = workspace_of(event.org_id)
    if workspace is not None:
        workspace.team_token = event.team_token


app.mount("/api/webhooks/butt-dial", inbound.asgi())


@app.post("/signup")
def signup(customer: Signup) -> dict[str, Any]:
    """Register a workspace for a customer."""
    workspace_id = str(uuid.uuid4())
    registration = accounts.register(
        customer.name,
        customer.email,
        branding=BRANDING,
        return_url=f"{PUBLIC_URL}/welcome?ws={workspace_id}",
        webhook_url=f"{PUBLIC_URL}/api/webhooks/butt-dial/account",
        verification_email=MAIL,
    )
    WORKSPACES[workspace_id] = Workspace(
        workspace_id, registration.org_id, registration.poll_token, registration.webhook_secret
    )
    return {
        "workspace_id": workspace_id,
        "org_id": registration.org_id,
        "verification_sent": registration.verification_sent,
    }


@app.get("/workspaces/{workspace_id}")
def status(workspace_id: str) -> dict[str, Any]:
    """Say whether the token has come, for the page that asks the customer to look at the mail."""
    workspace = WORKSPACES.get(workspace_id)
    if workspace is None:
        raise HTTPException(404, "not found")
    return {"workspace_id": workspace.id, "provisioned": workspace.team_token is not None}
