"""Where a socket that is not for requests is connected to."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from urllib3.exceptions import NameResolutionError, ProxyError

from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.tunnel import connect_socket


@pytest.mark.parametrize(
    ("url", "proxy", "called"),
    [
        ("http://h.test", None, ("h.test", 80)),
        ("https://h.test", None, ("h.test", 443)),
        ("http://h.test:81/path", None, ("h.test", 81)),
        ("https://h.test:8443", None, ("h.test", 8443)),
        ("https://[2001:db8::1]", None, ("2001:db8::1", 443)),
        ("http://h.test:81", "http://proxy.test", ("proxy.test", 80)),
        ("http://h.test:81", "http://[2001:db8::1]", ("2001:db8::1", 80)),
        ("https://h.test", "http://user:word@proxy.test:3128", ("proxy.test", 3128)),
    ],
)
def test_who_is_called(
    url: str, proxy: str | None, called: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server, or the proxy if there is one; at the scheme's port if the address has none."""
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int, *_: Any) -> Any:
        asked.append((host, port))
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    progress = RequestProgress(Deadline(30.0, lambda: 0.0), 5.0)
    with pytest.raises(NameResolutionError if proxy is None else ProxyError):
        connect_socket(url, None if proxy is None else urlsplit(proxy), progress)
    assert asked == [called]
