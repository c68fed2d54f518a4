"""Refusals of tools and endpoints, as exceptions."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync import (
    ArgumentNotSupported,
    AuthError,
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
        """An answer of another shape names the tool and the path, and was carried out."""
        hosted.on_tool("comms_make_call", {"callSid": {"not": "an id"}})
        with pytest.raises(ProtocolError, match=r"comms_make_call .*call_sid") as caught:
            client.voice.make_call("+1")
        assert caught.value.outcome == "sent"

    def test_refusal_of_an_argument(self, open_source: FakeButtDialServer, client: Client) -> None:
        """Both servers' schemas are asked, not a list of ours."""
        set_tools(
            open_source, [{"name": "comms_make_call", "inputSchema": {"properties": {"to": {}}}}]
        )
        with pytest.raises(ArgumentNotSupported, match="orchestrator"):
            client.voice.make_call("+1", orchestrator="o")
        assert open_source.calls == []
