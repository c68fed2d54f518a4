"""
From nothing to a workspace with a token.

Set BUTT_DIAL_BASE_URL. What is found out is kept in workspace.json, readable by you only.

    python onboard.py register Acme owner@acme.example https://acme.example/hooks/account/
    python onboard.py serve 8000       receives the token by webhook when the owner has agreed
    python onboard.py verify TOKEN     or redeem the token of the link in the owner's mail
"""

import json
import os
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from buttdial_sync import AccountsClient, AccountVerified, InboundHandler, OnboardingRequired

STORE = Path(os.environ.get("WORKSPACE_FILE", "workspace.json"))


def load() -> dict[str, Any]:
    """Return what is kept."""
    kept: dict[str, Any] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    return kept


def keep(**values: str | None) -> None:
    """Keep more, so that a crash leaves either the old file or the new one."""
    new = STORE.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({**load(), **values}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(STORE)


def register(name: str, email: str, webhook_url: str) -> None:
    """Register the workspace; its owner gets a mail in the host's own colours."""
    with AccountsClient.from_env() as accounts:
        registration = accounts.register(
            name,
            email,
            branding={"productName": name, "primaryColor": "#0a7"},
            webhook_url=webhook_url,
            verification_email={
                "subject": f"Welcome to {name}",
                "text": "Please confirm: {{verifyUrl}}",
            },
        )
    keep(
        org_id=registration.org_id,
        poll_token=registration.poll_token,
        webhook_secret=registration.webhook_secret,
    )
    print(f"registered as {registration.org_id}; now the owner has to follow the link in the mail")


def verify(token: str) -> None:
    """Redeem the token of the link."""
    with AccountsClient.from_env() as accounts:
        try:
            credentials = accounts.verify(token)
        except OnboardingRequired as required:
            print(f"the terms have to be accepted first: {required.onboarding_url}")
            return
    keep(team_token=credentials.team_token)
    print("verified")


def serve(port: str) -> None:
    """Wait for the webhook that brings the token."""
    kept = load()
    inbound = InboundHandler(
        account_webhook_secret=lambda org: kept["webhook_secret"] if org == kept["org_id"] else None
    )

    @inbound.on_account_verified()
    def verified(event: AccountVerified) -> None:
        keep(team_token=event.team_token)

    class Hooks(BaseHTTPRequestHandler):
        """Passes POSTs on to the handler."""

        timeout = 10.0

        def do_POST(self) -> None:
            """Answer a webhook."""
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(max(0, min(length, inbound.max_body_bytes + 1)))
            answer = inbound.handle("account", body, dict(self.headers))
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.body.encode())

    with HTTPServer(("127.0.0.1", int(port)), Hooks) as server:
        print(f"waiting at http://127.0.0.1:{server.server_port}/", flush=True)
        while "team_token" not in load():
            server.handle_request()
    print("verified")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or [""]
    commands: dict[str, Callable[..., None]] = {
        "register": register,
        "verify": verify,
        "serve": serve,
    }
    if command not in commands:
        sys.exit(__doc__)
    commands[command](*arguments)
