"""What people write on their first day is answered with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync import AccountsClient, Client, ClientEvent, ToolNotAvailable
from buttdial_sync.testing import FakeButtDialServer

STARTING = {"error": "starting", "retryable": True}


def test_a_misspelt_tool(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """The server's nearest tool is named; it is asked for its tools only then."""
    with pytest.raises(ToolNotAvailable) as caught:
        butt_dial_client.call_tool("comms_pings")
    assert caught.value.remediation == "Did you mean comms_ping?"


def test_a_tool_like_no_other(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Without a like one the general advice stays."""
    with pytest.raises(ToolNotAvailable) as caught:
        butt_dial_client.call_tool("make_coffee")
    assert caught.value.remediation == ToolNotAvailable.remedy


def test_the_tools_cannot_be_asked_for(fake_server: FakeButtDialServer) -> None:
    """The first error is the one that is raised."""

    def break_down(event: ClientEvent) -> None:
        if event.error:
            fake_server.fault("status", status=503, on="post", body=STARTING)

    with (
        Client(fake_server.install(), agent_token="t", on_event=break_down) as client,
        pytest.raises(ToolNotAvailable) as caught,
    ):
        client.call_tool("comms_pings")
    assert caught.value.remediation == ToolNotAvailable.remedy
    assert sum(b"tools/list" in request.body for request in fake_server.requests) == 1


@pytest.mark.parametrize("channel", ["telegram", "whatsap"])
def test_a_channel_that_does_not_exist(butt_dial_client: Client, channel: Any) -> None:
    """The result says what to give."""
    result = butt_dial_client.send_message("+14155550123", "Hello", channel)
    assert result.failed
    assert "'sms'" in str(result.error)
    assert result.remediation in {"Give one of them.", "Did you mean 'whatsapp'?"}


def test_classes_that_users_know(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Python's own complaints name the class that was imported."""
    with pytest.raises(TypeError, match=r"^Client\.send_message\(\) "):
        butt_dial_client.send_message("+14155550123", "Hello", chanel="sms")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Client\.call_tool\(\) "):
        butt_dial_client.as_agent("t").call_tool()  # type: ignore[call-arg]
    with (
        AccountsClient(fake_server.install(), team_token="t") as accounts,
        pytest.raises(TypeError, match=r"^AccountsClient\.list_agent_tokens\(\): "),
    ):
        accounts.list_agent_tokens()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^FakeButtDialServer\.on_send\(\) "):
        fake_server.on_send(sdi="SM1")  # type: ignore[call-arg]
