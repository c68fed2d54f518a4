"""Refusals of tools and endpoints, as exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync import (
    AgentSuspended,
    ArgumentNotSupported,
    AuthError,
    ChannelError,
    Client,
    ComplianceError,
    EndpointNotAvailable,
    InvalidRequestError,
    NoChannelAssigned,
    PermissionDeniedError,
    ProtocolError,
    ProviderCapabilityError,
    RateLimitError,
    ServerError,
    ToolError,
    ToolNotAvailable,
)
from buttdial_sync.testing import FakeButtDialServer, ToolFailure
from tests.fakes import set_tools


class TestErrors:
    """Refusals become their classes, by whichever way they come."""

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (ToolFailure("no", "PROVIDER_UNSUPPORTED", action="react"), ProviderCapabilityError),
            (ToolFailure({"code": "NO_CHANNEL_ASSIGNED", "message": "no"}), NoChannelAssigned),
            (ToolFailure("Compliance: opted out"), ComplianceError),
            (ToolFailure("Auth error: wrong scope"), PermissionDeniedError),
            (
                ToolFailure("Rate limit exceeded: per-minute (10/10). Resets in 60 s"),
                RateLimitError,
            ),
            (ToolFailure("anything else"), ToolError),
        ],
    )
    def test_tool(
        self,
        hosted: FakeButtDialServer,
        client: Client,
        answer: ToolFailure,
        kind: type[ToolError],
    ) -> None:
        """A tool's no."""
        hosted.on_tool("comms_whatsapp_action", answer)
        with pytest.raises(kind) as caught:
            client.whatsapp.react("m-1", "👍")
        assert type(caught.value) is kind
        assert caught.value.outcome == "rejected"
        assert len(hosted.calls) == 1

    def test_details(self, hosted: FakeButtDialServer, client: Client) -> None:
        """What the server says about the refusal is on the error."""
        said = {"channel": "whatsapp", "action": "edit", "provider": "p", "remediation": "Do it."}
        hosted.on_tool("comms_whatsapp_action", ToolFailure("no", "CHANNEL_UNSUPPORTED", **said))
        with pytest.raises(ProviderCapabilityError) as caught:
            client.whatsapp.edit("m-1", "text")
        error = caught.value
        assert {name: getattr(error, name) for name in said} == said
        assert error.code == "CHANNEL_UNSUPPORTED"

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"error": "Invalid", "code": "AUTH_INVALID_TOKEN"}, AuthError),
            (403, {"error": "Auth error: scope"}, PermissionDeniedError),
            (400, {"error": "limit must be a number"}, InvalidRequestError),
            (404, "<!DOCTYPE html><html></html>", EndpointNotAvailable),
            (500, {"error": "oops"}, ServerError),
        ],
    )
    def test_rest(
        self,
        hosted: FakeButtDialServer,
        client: Client,
        status: int,
        body: Any,
        kind: type[Exception],
    ) -> None:
        """An endpoint's no; a 401 and an endpoint that is not there are not tried again."""
        hosted.fault("status", on="rest", status=status, body=body, count=3)
        with pytest.raises(kind):
            client.profile.channel_status()
        assert len(hosted.requests) == (3 if status == 500 else 1)

    def test_unexpected_shape(self, hosted: FakeButtDialServer, client: Client) -> None:
        """An answer without what it is for names the tool and the path, and was carried out."""
        hosted.on_tool("comms_verify_otp", {"valid": "yes"})
        with pytest.raises(ProtocolError, match=r"comms_verify_otp .*valid") as caught:
            client.otp.verify("123456")
        assert caught.value.outcome == "sent"

    def test_odd_field_of_what_was_carried_out(
        self, hosted: FakeButtDialServer, client: Client
    ) -> None:
        """A call that was made is not an error, so that nobody makes it twice."""
        hosted.on_tool("comms_make_call", {"callSid": "CA1", "status": 1})
        made = client.voice.make_call("+14155550123")
        assert (made.call_sid, made.status) == ("CA1", None)
        assert made.raw == {"callSid": "CA1", "status": 1}

    def test_refusal_of_an_argument(self, open_source: FakeButtDialServer, client: Client) -> None:
        """Both servers' schemas are asked, not a list of ours."""
        set_tools(
            open_source, [{"name": "comms_make_call", "inputSchema": {"properties": {"to": {}}}}]
        )
        with pytest.raises(ArgumentNotSupported, match="orchestrator"):
            client.voice.make_call("+1", orchestrator="o")
        assert open_source.calls == []


class TestOpenSource:
    """What the open-source server says in words, and what it would drop without a word."""

    @pytest.mark.parametrize(
        ("words", "kind", "code"),
        [
            ('Token for agent "a" cannot access agent "b"', PermissionDeniedError, None),
            ('Agent "a" has no phone number available', NoChannelAssigned, None),
            ('Agent "a" is blocked on voice channel', ChannelError, "CHANNEL_BLOCKED"),
            ('Agent "a" is not active (status: suspended)', AgentSuspended, None),
            ("Compliance: TCPA: Calls not allowed at 22:00", ComplianceError, "CALLING_HOURS"),
        ],
    )
    def test_words(
        self,
        open_source: FakeButtDialServer,
        client: Client,
        words: str,
        kind: type[ToolError],
        code: str | None,
    ) -> None:
        """The class that the method documents, a code, and advice."""
        open_source.on_tool("comms_make_call", ToolFailure(words))
        with pytest.raises(kind) as caught:
            client.voice.make_call("+15550001111")
        assert type(caught.value) is kind
        assert caught.value.code == (code or kind.default_code or kind.server_codes[0])
        assert caught.value.remediation

    def test_arguments_of_a_tool_about_consent(
        self, open_source: FakeButtDialServer, client: Client
    ) -> None:
        """The server's own check of the arguments quotes the tool's name."""
        with pytest.raises(InvalidRequestError, match="comms_check_consent"):
            client.call_tool("comms_check_consent", {"channel": "line"})
        assert len(open_source.calls) == 1

    def test_a_typo_inside_of_an_argument(
        self, open_source: FakeButtDialServer, client: Client
    ) -> None:
        """It is refused: the server would take its defaults, and buy a number for them."""
        organization = client.organization
        with pytest.raises(ArgumentNotSupported, match=r"limits\.maxActionsPerMinutes"):
            organization.set_limits({"maxActionsPerMinutes": 1}, confirm=True)
        with pytest.raises(ArgumentNotSupported, match=r"sms, capabilities\.whatsApp"):
            organization.onboard_customer("Cust", {"sms": True, "whatsApp": True})
        assert open_source.calls == []
        assert organization.onboard_customer("Cust", {"whatsapp": True}).agent_token

    def test_both_numbers_of_a_bridge(
        self, open_source: FakeButtDialServer, client: Client
    ) -> None:
        """The server needs both for a call."""
        client.organization.call_bridge(caller_number="+1", destination_number="+2")
        (call,) = open_source.calls
        assert call.args == {"action": "call", "callerNumber": "+1", "destinationNumber": "+2"}

    def test_a_tool_with_another_way(self, open_source: FakeButtDialServer, client: Client) -> None:
        """What an agent cannot do itself, an administrator can."""
        with pytest.raises(ToolNotAvailable, match=r"no tool comms_rotate_token(\n|$)") as caught:
            client.profile.rotate_token(confirm=True)
        assert "regenerate_agent_token" in str(caught.value.remediation)
        assert open_source.calls == []

    @pytest.mark.parametrize(
        ("call", "named"),
        [
            (lambda client: client.profile.get(), "GET /api/v1/agents/me"),
            (lambda client: client.voice.list_voices(), "GET /api/v1/voices"),
            (lambda client: client.profile.set_status("suspended"), "PUT /api/v1/client-status"),
            (
                lambda client: client.inbox.set_callback_url("https://h.test"),
                "PUT /api/v1/callback-url",
            ),
        ],
    )
    def test_an_endpoint_that_is_not_there(
        self,
        open_source: FakeButtDialServer,
        client: Client,
        call: Callable[[Client], object],
        named: str,
    ) -> None:
        """The error names it."""
        with pytest.raises(EndpointNotAvailable, match=rf"this server has no {named}(\n|$)"):
            call(client)
        assert len(open_source.requests) == 1
