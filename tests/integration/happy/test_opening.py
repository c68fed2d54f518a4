"""Opening the live connection at servers that answer as they should not."""

from __future__ import annotations

import socket

import pytest

from buttdial_sync.happy import errors
from tests.integration.happy.raw_server import (
    OPEN,
    client_at,
    frame,
    head_of,
    read_until_cut,
    serving,
    unmasked,
    upgrade,
)


def test_a_redirect_is_not_followed() -> None:
    """The token would go to whom the redirect names."""
    heard: list[bytes] = []

    def another_origin(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(OPEN))
        heard.append(unmasked(read_until_cut(connection)))

    with serving(another_origin) as elsewhere:

        def portal(connection: socket.socket) -> None:
            head_of(connection)
            target = f"ws://127.0.0.1:{elsewhere}/v1/updates/?transport=websocket&EIO=4"
            connection.sendall(
                f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            read_until_cut(connection)

        with serving(portal) as port, client_at(port, connect_timeout=20.0) as client:
            with pytest.raises(errors.ConnectionError, match="no live connection") as caught:
                client.check_live_connection()
            assert caught.value.outcome == "not_sent"
    assert heard == []
