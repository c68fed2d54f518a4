"""The whole way of a workspace, at the fake server and over a real socket."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from buttdial_sync import (
    AccountsClient,
    AuthForbidden,
    AuthNonceReplay,
    AuthTimestampExpired,
    AuthTokenRevokedError,
    ChallengeNotFound,
    Client,
    ConflictError,
    NotFoundError,
    OnboardingRequired,
    OnboardingSessionError,
    OrgAlreadyVerified,
    OTPInvalid,
    OTPMaxAttempts,
    PhoneNotConfigured,
    TemplateMissingVerifyUrl,
    TemplateTooLarge,
    TosVersionMismatch,
    VerificationTokenExpired,
    WebhookSecretUnregistered,
)
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.workspace import OTP, TERMS_VERSION

from .workspace_endpoints import WorkspaceEndpoints
from .workspaces import workspace

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
PHONE = "+14155550123"


def test_from_registration_to_a_message() -> None:
    """Registered, verified, an agent made: its token sends, and a regenerated one replaces it."""
    fake = FakeButtDialServer(tokens=())
    with fake.listen() as loopback, AccountsClient(loopback.base_url) as client:
        registered = client.register("Acme", "o@example.com", webhook_url="https://host/hook")
        poll_token = str(registered.poll_token)
        assert client.resend_verification(registered.org_id).verification_sent
        assert client.verification_status(registered.org_id, poll_token).status == "pending"
        link = fake.workspace.verification_token(registered.org_id)
        team = client.with_token(client.verify(link).team_token)
        assert client.verification_status(registered.org_id, poll_token).verified
        account = team.get_account()
        assert (account.org_id, account.name) == (registered.org_id, "Acme")
        assert team.list_my_memberships().memberships[0].role == "owner"

        agent = team.register_agent("bot/1 a", "Bot")
        team.manage_agent_channel("bot/1 a", "add", "whatsapp", options={"number": PHONE})
        with Client(loopback.base_url, agent_token=agent.agent_token) as sender:
            assert sender.send_message(PHONE, "Hello").ok
        renewed = team.regenerate_agent_token("bot/1 a")
        assert renewed.revoked_count == 1
        with Client(loopback.base_url, agent_token=agent.agent_token) as sender:
            refused = sender.send_message(PHONE, "Hello")
        assert isinstance(refused.exception, AuthTokenRevokedError)
        assert team.list_agent_tokens("bot/1 a").tokens[0].last_four == renewed.agent_token[-4:]


def test_terms() -> None:
    """Where the terms are wanted, verify says where to go, and accepting gives the token."""
    with workspace() as (fake, client):
        fake.workspace.terms_required = True
        registered = client.register("Acme", "o@example.com", return_url="https://h")
        link = fake.workspace.verification_token(registered.org_id)
        with pytest.raises(OnboardingRequired) as caught:
            client.verify(link)
        session = str(caught.value.onboarding_session_id)
        with pytest.raises(TosVersionMismatch):
            client.accept_onboarding(session, "1999")
        assert client.accept_onboarding(session, TERMS_VERSION).team_token
        with pytest.raises(OnboardingSessionError):
            client.accept_onboarding(session, TERMS_VERSION)
        with pytest.raises(OrgAlreadyVerified):
            client.verify(link)
        with pytest.raises(VerificationTokenExpired):
            client.verify("another")


def test_registering_again_keeps_the_secret() -> None:
    """The same pending workspace gets the same id and webhook secret."""
    with workspace() as (_, client):
        first = client.register("Acme", "o@example.com", webhook_url="https://h")
        assert client.register("Acme", "o@example.com", webhook_url="https://h") == first
        assert (
            client.register("Acme", "o@example.com", return_url="https://h").webhook_secret is None
        )


def test_templates() -> None:
    """A mail without the link, or too large, is refused."""
    with workspace() as (_, client):
        with pytest.raises(TemplateMissingVerifyUrl):
            client.register("Acme", "o@example.com", verification_email={"html": "Hello"})
        with pytest.raises(TemplateTooLarge):
            client.register(
                "Acme", "o@example.com", verification_email={"text": "{{verifyUrl}}" * 20_000}
            )


def test_revealing_the_team_token() -> None:
    """The webhook secret proves the workspace; another one, an old clock or nonce do not."""
    times = [NOW.timestamp()]
    fake = FakeButtDialServer(clock=lambda: NOW)
    nonces = iter(("a" * 32, "a" * 32, *(f"{n:032d}" for n in range(9))))
    with workspace(fake, wall_clock=lambda: times[0], make_nonce=lambda: next(nonces)) as (
        _,
        client,
    ):
        registered = client.register("Acme", "o@example.com", webhook_url="https://h")
        org_id, secret = registered.org_id, str(registered.webhook_secret)
        revealed = client.reveal_team_token(org_id, secret)
        assert (revealed.org_name, revealed.rotated) == ("Acme", True)
        with pytest.raises(AuthNonceReplay):
            client.reveal_team_token(org_id, secret)
        with pytest.raises(AuthForbidden):
            client.reveal_team_token(org_id, "another")
        times[0] += 61
        with pytest.raises(AuthTimestampExpired):
            client.reveal_team_token(org_id, secret)
        other = client.register("Other", "p@example.com", return_url="https://h")
        with pytest.raises(WebhookSecretUnregistered):
            client.reveal_team_token(other.org_id, "any")


def test_rotation_needs_the_phone() -> None:
    """A phone is set and confirmed, then the token rotates; the old one is dead."""
    fake = FakeButtDialServer(tokens={"team-s3cret"})
    with workspace(fake) as (_, client):
        with pytest.raises(PhoneNotConfigured):
            client.rotate_token(lambda _hint: OTP)
        challenge = client.set_phone(PHONE)
        assert client.confirm_phone(challenge.challenge_id, OTP).phone_hint == "…0123"
        with pytest.raises(ChallengeNotFound):
            client.confirm_phone(challenge.challenge_id, OTP)
        codes = {"…0123": OTP}
        rotated = client.rotate_token(codes.__getitem__)
        with pytest.raises(AuthTokenRevokedError):
            client.get_account()
        renewed = client.with_token(rotated.team_token)
        assert renewed.get_account().owner_phone_hint == "…0123"
        renewed.revoke_token()
        with pytest.raises(AuthTokenRevokedError):
            renewed.revoke_token()


def test_wrong_passcodes() -> None:
    """A passcode may be mistyped a few times."""
    with workspace() as (_, client):
        challenge = client.set_phone(PHONE)
        for _attempt in range(3):
            with pytest.raises(OTPInvalid):
                client.confirm_phone(challenge.challenge_id, "000000")
        with pytest.raises(OTPMaxAttempts):
            client.confirm_phone(challenge.challenge_id, OTP)


def test_members() -> None:
    """Somebody is let in once, is listed, and is taken out."""
    with workspace() as (fake, client):
        WorkspaceEndpoints(fake)
        org_id = client.get_account().org_id
        client.add_org_member(org_id, "m+1@example.com", role="admin")
        with pytest.raises(ConflictError):
            client.add_org_member(org_id, "m+1@example.com")
        assert client.list_org_members(org_id)["members"][0]["role"] == "admin"
        client.remove_org_member(org_id, "m+1@example.com", reason="left")
        with pytest.raises(NotFoundError):
            client.remove_org_member(org_id, "m+1@example.com")


def test_channels() -> None:
    """A channel record is added, changed, listed and deleted."""
    with workspace() as (fake, client):
        WorkspaceEndpoints(fake)
        client.register_agent("a", "Bot")
        record = client.add_agent_comm_channel("a", "email", email_local_part="bot")
        client.update_comm_channel(record["id"], paused=True, label="Desk")
        (listed,) = client.list_agent_comm_channels("a").records
        assert (listed.identifier, listed.paused, listed.label) == ("bot@example.com", True, "Desk")
        client.delete_comm_channel(record["id"])
        with pytest.raises(NotFoundError):
            client.delete_comm_channel(record["id"])


def test_agents_end() -> None:
    """An agent's token dies with it; it can be registered only once."""
    with workspace() as (_, client):
        client.register_agent("a", "Bot")
        with pytest.raises(ConflictError):
            client.register_agent("a", "Bot")
        assert client.get_agent("a")["display_name"] == "Bot"
        assert client.deprovision("a", release_number=False).number_released is False
        with pytest.raises(NotFoundError):
            client.get_agent("a")


def test_billing_and_limits() -> None:
    """What was set is answered, and kept."""
    with workspace() as (_, client):
        client.register_agent("a", "Bot")
        client.set_billing_config(agent_id="a", tier="pro")
        settings = client.set_billing_config(agent_id="a", markup_percent=7.5)
        assert settings.billing_config["tier"] == "pro"
        assert settings.billing_config["markupPercent"] == 7.5
        assert settings.tier_limits
        client.set_client_limits({"maxSpendPerDay": 1}, agent_id="a")
        limits = client.set_client_limits({"maxActionsPerDay": 2}, agent_id="a").current_limits
        assert (limits["maxSpendPerDay"], limits["maxActionsPerDay"]) == (1, 2)


def test_erasure() -> None:
    """A workspace with agents is erased only by force; its token is dead afterwards."""
    fake = FakeButtDialServer(tokens={"team-s3cret"})
    with workspace(fake) as (fake, client):
        more = WorkspaceEndpoints(fake)
        client.register_agent("a", "Bot")
        assert client.start_erasure().expires_at is not None
        token = next(iter(more.erasures))
        with pytest.raises(ConflictError):
            client.confirm_erasure(token)
        client.confirm_erasure(token, force=True)
        with pytest.raises(AuthTokenRevokedError):
            client.get_account()


def test_abandoning() -> None:
    """A pending registration can be given up, a verified one cannot."""
    with workspace() as (fake, client):
        registered = client.register("Acme", "o@example.com", return_url="https://h")
        gone = client.abandon_org(registered.org_id, poll_token=registered.poll_token)
        assert (gone.deleted, gone.org_id) == (True, registered.org_id)
        with pytest.raises(NotFoundError):
            client.abandon_org(registered.org_id)
        again = client.register("Acme", "o@example.com", return_url="https://h")
        client.verify(fake.workspace.verification_token(again.org_id))
        with pytest.raises(OrgAlreadyVerified):
            client.abandon_org(again.org_id, reason="mistake")


@pytest.mark.parametrize("poll_token", ["nonsense", None])
def test_a_stranger_cannot_abandon(poll_token: str | None) -> None:
    """It takes the workspace's poll token: no other will do, nor the team token of another."""
    with workspace() as (fake, client):
        registered = client.register("Acme", "o@example.com", return_url="https://h")
        with pytest.raises(AuthForbidden):
            client.abandon_org(registered.org_id, poll_token=poll_token)
        assert registered.org_id in fake.workspace.orgs


def test_a_super_admin_abandons() -> None:
    """Who stands above all workspaces needs no poll token."""
    with workspace(FakeButtDialServer(tokens={"team-s3cret"})) as (fake, client):
        fake.workspace.super_admin_tokens.add("team-s3cret")
        registered = client.register("Acme", "o@example.com", return_url="https://h")
        assert client.abandon_org(registered.org_id).deleted


def test_a_verified_workspace_is_registered_anew() -> None:
    """Its poll token and its secret are not told to whoever knows its name."""
    with workspace() as (fake, client):
        first = client.register("Acme", "o@example.com", webhook_url="https://h")
        again = client.register("Acme", "o@example.com", webhook_url="https://h")
        assert (again.org_id, again.webhook_secret) == (first.org_id, first.webhook_secret)
        client.verify(fake.workspace.verification_token(first.org_id))
        other = client.register("Acme", "o@example.com", webhook_url="https://h")
        assert other.org_id != first.org_id
        assert other.poll_token != first.poll_token
        assert other.webhook_secret != first.webhook_secret


def test_clearing_the_fake_server() -> None:
    """``clear()`` forgets agents and workspaces; the token stays good."""
    with workspace(FakeButtDialServer(tokens={"team-s3cret"})) as (fake, client):
        client.register_agent("a", "Bot")
        fake.clear()
        assert client.register_agent("a", "Bot").agent_token
