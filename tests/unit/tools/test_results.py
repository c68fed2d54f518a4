"""Results: both servers' shapes, and what their ``repr`` keeps to itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest

from buttdial_sync import ArgumentValueError, Client, ToolError, ToolResult
from buttdial_sync.testing import FakeButtDialServer, ToolFailure

SECRET = "s3cret-value"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class TestToolResult:
    """An answer without a documented shape is a mapping that shows no values."""

    answer: Mapping[str, Any] = {"messageId": 1, "agent_name": "A", "token": SECRET}

    def test_both_spellings(self) -> None:
        """Keys are found in camelCase and snake_case alike."""
        result = ToolResult(self.answer)
        assert result["messageId"] == result["message_id"] == 1
        assert result["agentName"] == result["agent_name"] == "A"
        assert "message_id" in result
        assert result.get("nothing") is None
        with pytest.raises(KeyError, match="not_there"):
            result["not_there"]

    def test_exact_key_wins(self) -> None:
        """Where a server sends both, each is found under its own name."""
        result = ToolResult({"messageId": "camel", "message_id": "snake"})
        assert (result["messageId"], result["message_id"]) == ("camel", "snake")

    def test_mapping(self) -> None:
        """It compares, iterates and pickles as one."""
        result = ToolResult(self.answer)
        assert result == self.answer
        assert list(result) == list(self.answer)
        assert dict(result) == self.answer
        assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own bytes

    def test_repr(self) -> None:
        """Keys are shown, values and texts are not."""
        assert repr(ToolResult(self.answer)) == (
            "ToolResult(keys=['messageId', 'agent_name', 'token'])"
        )
        assert SECRET not in repr(ToolResult(SECRET)) + repr(ToolResult([SECRET]))

    @pytest.mark.parametrize("answer", ["Done.", ["a"], 5, None])
    def test_no_object(self, answer: Any) -> None:
        """Texts and lists have no keys; they are under ``raw``, a text also under ``text``."""
        result = ToolResult(answer)
        assert len(result) == 0
        assert result.raw == answer
        assert result.text == (answer if isinstance(answer, str) else None)

    @pytest.mark.parametrize("other", ["no", ["b"], 6, None, {}, {"messageId": 1}])
    @pytest.mark.parametrize("answer", ["yes", ["a"], 5, [], {"messageId": 2}])
    def test_different_answers_are_not_equal(self, answer: Any, other: Any) -> None:
        """Also those without keys."""
        assert ToolResult(answer) != ToolResult(other)
        assert ToolResult(answer) == ToolResult(answer)
        assert ToolResult(answer) != other
        assert (ToolResult(answer) == answer) is isinstance(answer, dict)

    def test_a_preview_is_not_the_deed(self) -> None:
        """The same answer can mean that nothing was carried out."""
        assert ToolResult({"a": 1}) != ToolResult({"a": 1}, previewed=True)

    def test_keys_that_are_not_text(self) -> None:
        """They are not there, as in any mapping."""
        result = ToolResult(self.answer)
        assert 5 not in result  # type: ignore[comparison-overlap]
        assert result.get(None) is None  # type: ignore[call-overload]

    def test_frozen(self) -> None:
        """It cannot be changed."""
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            ToolResult({}).raw = 1  # type: ignore[misc]


def test_refusals_do_not_repeat_credentials(hosted: FakeButtDialServer, client: Client) -> None:
    """Nor a passcode: what the server says of them goes into logs."""
    hosted.on_tool(
        "comms_register_provider",
        lambda given: ToolFailure(f"Twilio refused {given['credentials']['authToken']}"),
    )
    with pytest.raises(ToolError, match=r"^Twilio refused \*\*\*") as caught:
        client.organization.register_provider("twilio", {"authToken": "provider-s3cret"})
    assert "s3cret" not in repr(vars(caught.value))
    hosted.on_tool("comms_verify_otp", lambda given: ToolFailure(f"{given['code']} is wrong"))
    with pytest.raises(ToolError, match=r"^\*\*\* is wrong"):
        client.otp.verify("483920")


@pytest.mark.parametrize(
    ("written", "channel", "sent"),
    [
        ("+1 (415) 555-0123", "sms", "+14155550123"),
        ("Ann <ann@example.com>", "email", "ann@example.com"),
    ],
)
def test_contacts_are_written_as_messages_are_sent(
    written: str, channel: str, sent: str, hosted: FakeButtDialServer, client: Client
) -> None:
    """Servers compare them letter by letter: consent of another text would not be withdrawn."""
    client.consent.check(written, channel)
    client.consent.record(written, channel)
    client.consent.revoke(written, channel, confirm=True)
    client.trust.check(written)
    client.trust.grant(written)
    client.trust.revoke(written, confirm=True)
    contacts = [call.args.get("contact", call.args.get("contactAddress")) for call in hosted.calls]
    assert contacts == [sent] * 6
    with pytest.raises(ArgumentValueError, match="no country code"):
        client.consent.revoke("0415 555", "sms", confirm=True)


def test_plain_text_answer(hosted: FakeButtDialServer, client: Client) -> None:
    """A tool may answer with a sentence."""
    hosted.on_tool("comms_grant_trust", "Trusted.")
    assert client.trust.grant("+1").text == "Trusted."


def test_wrong_code_is_an_answer(hosted: FakeButtDialServer, client: Client) -> None:
    """It raises nothing."""
    hosted.on_tool("comms_verify_otp", {"valid": False, "reason": "expired"})
    result = client.otp.verify("000000", to="+1", channel="sms")
    assert (result.valid, result.reason) == (False, "expired")


def test_call(hosted: FakeButtDialServer, client: Client) -> None:
    """A call's answer has names that Python allows."""
    call = client.voice.make_call("+14155550123")
    assert call.call_sid == "CA00000000000000000000000000000001"
    assert (call.from_, call.to, call.status) == ("+15550000000", "+14155550123", "initiated")
    assert call.raw["callSid"] == call.call_sid


def test_billing(hosted: FakeButtDialServer, client: Client) -> None:
    """Money is exact; the channels' names are left as they are."""
    hosted.on_rest(
        "GET",
        "/api/v1/billing",
        {
            "agentId": "a-1",
            "period": "month",
            "providerCost": 0.1,
            "billingCost": "0.30",
            "markupPercent": 20,
            "byChannel": {"voiceAi": {"providerCost": 0.0079, "billingCost": 0.01, "count": 3}},
        },
    )
    report = client.billing.current()
    assert (report.provider_cost, report.billing_cost) == (Decimal("0.1"), Decimal("0.30"))
    assert report.by_channel["voiceAi"].provider_cost == Decimal("0.0079")
    assert report.by_channel["voiceAi"].count == 3


def test_usage(hosted: FakeButtDialServer, client: Client) -> None:
    """Actions are counted for each channel."""
    hosted.on_rest(
        "GET",
        "/api/v1/usage",
        {
            "actions": {"sms": 2},
            "totalActions": 2,
            "costsByChannel": {"sms": 0.0158},
            "totalCost": 0.0158,
            "currentUsage": {"perMinute": 1},
        },
    )
    usage = client.billing.usage(period="today")
    assert usage.actions == {"sms": 2}
    assert usage.costs_by_channel == {"sms": Decimal("0.0158")}
    assert usage.current_usage is not None
    assert usage.current_usage["per_minute"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"phone": {"status": "active"}, "voiceAi": {"status": "off"}},
        {
            "agentId": "a-1",
            "status": "provisioned",
            "provisionedAt": "2026-01-02 03:04:05",
            "channels": {"phone": {"status": "active"}, "voiceAi": {"status": "off"}},
            "pool": {"maxAgents": 5},
        },
    ],
    ids=["hosted", "open-source"],
)
def test_channel_status(
    hosted: FakeButtDialServer, client: Client, answer: Mapping[str, Any]
) -> None:
    """The channels are found in both servers' answers."""
    hosted.on_rest("GET", "/api/v1/channel-status", answer)
    status = client.profile.channel_status()
    assert status.phone is not None
    assert status.phone["status"] == "active"
    assert status.voice_ai is not None
    assert status.voice_ai["status"] == "off"
    assert status.email is None
    assert status.raw == answer
    if "pool" in answer:
        assert (status.agent_id, status.status, status.provisioned_at) == (
            "a-1",
            "provisioned",
            MOMENT,
        )


@pytest.mark.parametrize(
    "answer",
    [
        {"contact": "+1", "hasConsent": True, "status": "granted", "grantedAt": MOMENT.isoformat()},
        {
            "contactAddress": "+1",
            "has_consent": True,
            "consent": {"status": "granted", "grantedAt": "2026-01-02 03:04:05"},
        },
    ],
    ids=["hosted", "open-source"],
)
def test_consent(hosted: FakeButtDialServer, client: Client, answer: Mapping[str, Any]) -> None:
    """The state is found in different answers; the rest is in ``raw``."""
    hosted.on_tool("comms_check_consent", dict(answer))
    state = client.consent.check("+1", "sms")
    assert (state.contact, state.has_consent, state.status) == ("+1", True, "granted")
    assert state.granted_at == MOMENT
    assert state.raw == answer


def test_a_wrong_passcode_is_false(hosted: FakeButtDialServer, client: Client) -> None:
    """``if client.otp.verify(...)`` lets in whoever typed the right code, and nobody else."""
    hosted.on_tool("comms_verify_otp", {"valid": False, "reason": "wrong code"})
    assert not client.otp.verify("000000", to="+14155550123", channel="sms")
    hosted.on_tool("comms_verify_otp", {"valid": True})
    assert client.otp.verify("123456", to="+14155550123", channel="sms")


def test_trust(hosted: FakeButtDialServer, client: Client) -> None:
    """Nobody is trusted unless the server says so."""
    hosted.on_tool("comms_check_trust", {"status": "none"})
    assert client.trust.check("+1").trusted is False
    hosted.on_tool("comms_check_trust", {"trusted": True, "expiresAt": "2026-01-02T03:04:05Z"})
    state = client.trust.check("+1")
    assert (state.trusted, state.expires_at) == (True, MOMENT)


def test_sessions(hosted: FakeButtDialServer, client: Client) -> None:
    """What is nested shows its keys only."""
    hosted.on_tool("comms_create_session", {"id": 7, "participants": [{"contact": SECRET}]})
    created = client.sessions.create([{"contact": "+1"}])
    assert created.session_id == "7"
    assert created.participants[0]["contact"] == SECRET
    assert SECRET not in repr(created)


NEW_TOKENS: Mapping[str, tuple[str, Callable[[Client], Any]]] = {
    "comms_rotate_token": ("token", lambda client: client.profile.rotate_token(confirm=True)),
    "comms_create_team": ("admin_token", lambda client: client.organization.create_team("A", "a")),
    "comms_onboard_customer": (
        "agent_token",
        lambda client: client.organization.onboard_customer("A", {"phone": True}),
    ),
}


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        ("comms_rotate_token", {"token": SECRET}),
        ("comms_create_team", {"team": {"id": "t-1"}, "adminToken": SECRET}),
        ("comms_create_team", {"team": {"id": "t-1", "adminToken": SECRET}}),
        ("comms_onboard_customer", {"agentId": "a-1", "token": SECRET}),
        (
            "comms_onboard_customer",
            {
                "provisioning": {"agentId": "a-1", "securityToken": SECRET},
                "connectionInstructions": f"Connect with {SECRET}",
                "webhookUrls": {"sms": f"https://x/?token={SECRET}"},
            },
        ),
    ],
)
def test_secrets(
    hosted: FakeButtDialServer, client: Client, tool: str, answer: dict[str, Any]
) -> None:
    """A new token is found under each of its names, and shows in no ``repr``."""
    hosted.on_tool(tool, answer)
    name, call = NEW_TOKENS[tool]
    result = call(client)
    assert getattr(result, name) == SECRET
    assert SECRET not in repr(result)


def test_profile(hosted: FakeButtDialServer, client: Client) -> None:
    """Both ways to the profile give the same; a callback URL may hold a host's secret."""
    answer = {
        "agentId": "a-1",
        "displayName": "Maya",
        "callbackUrl": f"https://host/?key={SECRET}",
        "createdAt": "2026-01-02T03:04:05.000Z",
        "channels": {"phone": "+1"},
    }
    hosted.on_rest("GET", "/api/v1/agents/me", answer)
    hosted.on_tool("comms_get_me", answer)
    profile = client.profile.get()
    assert profile == client.profile.me()
    assert (profile.agent_id, profile.created_at) == ("a-1", MOMENT)
    assert SECRET not in repr(profile)
