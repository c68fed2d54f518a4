"""The accounts endpoints about workspaces: registration, tokens, phone, members, erasure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from buttdial_sync.testing.workspace import (
    OTP,
    TERMS_VERSION,
    Challenge,
    Org,
    Refusal,
    RestCall,
    RestEndpoint,
    Workspace,
)

_LARGEST_TEMPLATE = 200 * 1024
_ATTEMPTS = 3


def _register(ws: Workspace, call: RestCall) -> Any:
    name, email = call.text("orgName"), call.text("ownerEmail")
    _check_template(call.body.get("verificationEmail") or {})
    wanted = (name, email, "pending")
    known = (org for org in ws.orgs.values() if (org.name, org.owner_email, org.status) == wanted)
    org = next(known, None) or Org(ws.fresh("org"), name, email, ws.now)
    ws.orgs[org.id] = org
    org.poll_token = org.poll_token or ws.fresh("poll-token")
    answer = {"orgId": org.id, "verificationSent": True, "pollToken": org.poll_token}
    if call.body.get("webhookUrl"):
        org.webhook_secret = org.webhook_secret or ws.fresh("webhook-secret")
        answer["webhookSecret"] = org.webhook_secret
    return answer


def _check_template(mail: dict[str, Any]) -> None:
    texts = [str(mail[part]) for part in ("html", "text") if mail.get(part)]
    if any(len(text.encode()) > _LARGEST_TEMPLATE for text in texts):
        raise Refusal(400, "The template is too large", "TEMPLATE_TOO_LARGE")
    if texts and not any("{{verifyUrl}}" in text for text in texts):
        raise Refusal(400, "The template lacks {{verifyUrl}}", "TEMPLATE_MISSING_VERIFY_URL")


def _resend(ws: Workspace, call: RestCall) -> Any:
    if ws.org(call.params["org_id"]).status == "verified":
        raise Refusal(409, "Organization is already verified", "ORG_ALREADY_VERIFIED")
    return {"verificationSent": True}


def _status(ws: Workspace, call: RestCall) -> Any:
    org = ws.org(call.params["org_id"])
    if call.request.query.get("poll_token") != org.poll_token:
        raise Refusal(403, "The poll token is another one", "AUTH_FORBIDDEN")
    return {
        "status": org.status,
        "verified": org.status == "verified",
        "verifiedAt": org.verified_at,
    }


def _verify(ws: Workspace, call: RestCall) -> Any:
    token = call.text("token")
    org = next((org for org in ws.orgs.values() if token == f"verify-{org.id}"), None)
    if org is None:
        raise Refusal(410, "The link is too old", "VERIFICATION_TOKEN_EXPIRED")
    if org.status == "verified":
        raise Refusal(409, "Organization is already verified", "ALREADY_VERIFIED")
    if not ws.terms_required:
        return _verified(ws, org)
    session = ws.fresh("onboarding")
    ws.onboarding[session] = org
    return {
        "teamToken": None,
        "requiresOnboarding": True,
        "orgId": org.id,
        "onboardingSessionId": session,
        "onboardingExpiresAt": _later(ws, timedelta(hours=1)),
    }


def _accept(ws: Workspace, call: RestCall) -> Any:
    session, version = call.text("sessionId"), call.text("version")
    if session not in ws.onboarding:
        raise Refusal(404, "No such session", "ONBOARDING_SESSION_NOT_FOUND")
    if version != TERMS_VERSION:
        raise Refusal(409, f"The terms are at {TERMS_VERSION}", "TOS_VERSION_MISMATCH")
    return _verified(ws, ws.onboarding.pop(session))


def _verified(ws: Workspace, org: Org) -> Any:
    org.status, org.verified_at = "verified", ws.now
    org.team_token = ws.new_token("team")
    return {"teamToken": org.team_token, "orgId": org.id, "scopes": ["workspace"]}


def _reveal(ws: Workspace, call: RestCall) -> Any:
    org = ws.org(call.params["org_id"])
    if org.webhook_secret is None:
        raise Refusal(409, "There is no webhook", "WEBHOOK_SECRET_UNREGISTERED")
    if call.token != org.webhook_secret:
        raise Refusal(403, "The secret is another one", "AUTH_FORBIDDEN")
    stamp = call.request.headers.get("x-request-timestamp", "")
    if not stamp.isdigit() or abs(int(stamp) - ws.seconds) > 60:
        raise Refusal(401, "The timestamp is off", "AUTH_TIMESTAMP_EXPIRED")
    nonce = call.request.headers.get("x-request-nonce", "")
    if nonce in ws.nonces:
        raise Refusal(401, "The nonce was used", "AUTH_NONCE_REPLAY")
    ws.nonces.add(nonce)
    rotated = org.team_token is None
    org.team_token = org.team_token or ws.new_token("team")
    return {"token": org.team_token, "rotated": rotated, "orgId": org.id, "orgName": org.name}


def _abandon(ws: Workspace, call: RestCall) -> Any:
    org = ws.org(call.text("orgId"))
    if org.status == "verified":
        raise Refusal(409, "Organization is already verified", "ORG_ALREADY_VERIFIED")
    if not call.token:
        raise Refusal(401, "Missing Authorization header", "AUTH_MISSING_HEADER")
    if call.token not in {org.poll_token, *ws.super_admin_tokens}:
        raise Refusal(403, "The poll token is another one", "AUTH_FORBIDDEN")
    del ws.orgs[org.id]
    return {"deleted": True, "orgId": org.id}


def _account(ws: Workspace, call: RestCall) -> Any:
    org = ws.org_of(call.token)
    return {
        "orgId": org.id,
        "name": org.name,
        "owner_email": org.owner_email,
        "owner_phone_hint": _hint(org.phone),
        "mode": "sandbox",
        "created_at": org.created_at,
        "status": org.status,
    }


def _set_phone(ws: Workspace, call: RestCall) -> Any:
    return _challenge(ws, ws.org_of(call.token), "phone", call.text("phone"))


def _confirm_phone(ws: Workspace, call: RestCall) -> Any:
    challenge = _answered(ws, call, "phone")
    challenge.org.phone = challenge.phone
    return {"ok": True, "phone_hint": _hint(challenge.phone)}


def _request_rotation(ws: Workspace, call: RestCall) -> Any:
    org = ws.org_of(call.token)
    if org.phone is None:
        raise Refusal(409, "There is no confirmed phone", "PHONE_NOT_CONFIGURED")
    return _challenge(ws, org, "rotation", org.phone)


def _confirm_rotation(ws: Workspace, call: RestCall) -> Any:
    org = _answered(ws, call, "rotation").org
    ws.token_check.revoke(org.team_token or "")
    org.team_token = ws.new_token("team")
    return {"token": org.team_token}


def _revoke(ws: Workspace, call: RestCall) -> Any:
    org = ws.org_of(call.token)
    ws.token_check.revoke(org.team_token or "")
    org.team_token = None
    return {"revoked": True}


def _challenge(ws: Workspace, org: Org, purpose: str, phone: str) -> Any:
    challenge_id = ws.fresh("challenge")
    ws.challenges[challenge_id] = Challenge(org, purpose, phone)
    return {"challenge_id": challenge_id, "phone_hint": _hint(phone)}


def _answered(ws: Workspace, call: RestCall, purpose: str) -> Challenge:
    challenge_id, otp = call.text("challengeId"), call.text("otp")
    challenge = ws.challenges.get(challenge_id)
    if challenge is None or challenge.purpose != purpose:
        raise Refusal(404, "There is no such challenge", "CHALLENGE_NOT_FOUND")
    challenge.attempts += 1
    if challenge.attempts > _ATTEMPTS:
        raise Refusal(429, "Too many attempts", "OTP_MAX_ATTEMPTS")
    if otp != OTP:
        raise Refusal(400, "The passcode is wrong", "OTP_INVALID")
    return ws.challenges.pop(challenge_id)


def _later(ws: Workspace, time: timedelta) -> str:
    moment = datetime.fromisoformat(ws.now.replace("Z", "+00:00")) + time
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _hint(phone: str | None) -> str | None:
    return phone and f"…{phone[-4:]}"


ENDPOINTS: tuple[RestEndpoint, ...] = (
    RestEndpoint("POST", "/api/orgs/register", _register, public=True, status=201),
    RestEndpoint("POST", "/api/orgs/verify", _verify, public=True),
    RestEndpoint("POST", "/api/orgs/abandon", _abandon, public=True),
    RestEndpoint("POST", "/api/orgs/onboarding/accept", _accept, public=True),
    RestEndpoint("POST", "/api/orgs/{org_id}/resend-verification", _resend, public=True),
    RestEndpoint("POST", "/api/orgs/{org_id}/reveal-team-token", _reveal, public=True),
    RestEndpoint("GET", "/api/orgs/{org_id}/verification-status", _status, public=True),
    RestEndpoint("GET", "/api/orgs/me", _account),
    RestEndpoint("POST", "/api/orgs/me/phone/set", _set_phone),
    RestEndpoint("POST", "/api/orgs/me/phone/confirm", _confirm_phone),
    RestEndpoint("POST", "/api/orgs/me/rotate-token/request", _request_rotation),
    RestEndpoint("POST", "/api/orgs/me/rotate-token/confirm", _confirm_rotation),
    RestEndpoint("POST", "/api/orgs/me/tokens/revoke", _revoke),
)
