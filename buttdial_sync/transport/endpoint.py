"""The address that a stream names for the posts, and what proxies do to it."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from buttdial_sync.errors import AuthError, ButtDialError, ProtocolError
from buttdial_sync.transport.http import origin_of

BUFFERING_PROXY = (
    "If a proxy stands before the server, it has to pass on each event at once (nginx: "
    "proxy_buffering off). Otherwise check that base_url is a Butt-Dial server, or raise timeout."
)


def post_url(stream_url: str, endpoint: str) -> str:
    """
    Return the address of the posts.

    Args:
        stream_url: Where the stream was opened.
        endpoint: What the stream says, relative to that.

    Raises:
        ProtocolError: It is at another origin. The token is not sent there.
    """
    try:
        url = urljoin(stream_url, endpoint)
    except ValueError:
        url = ""
    if origin_of(url) != origin_of(stream_url):
        raise ProtocolError(
            f"the server asks for posts to another origin, {origin_of(url)}",
            stage="session",
            remediation="The token is not sent there. If it is yours, give it as base_url.",
        )
    return url


def lost_prefix(stream_url: str, url: str, error: ButtDialError) -> ProtocolError | None:
    """
    Return what explains a first post that failed, if the address of the posts lacks a path prefix.

    A server that a proxy serves under a prefix does not know it, and names an address at the root.

    Args:
        stream_url: Where the stream was opened.
        url: Where the post went.
        error: What it failed with.
    """
    prefix = urlsplit(stream_url).path.removesuffix("/sse")
    path = urlsplit(url).path
    is_below = not prefix or path.startswith(f"{prefix}/")
    if is_below or error.status_code is None or isinstance(error, AuthError):
        return None
    return error.as_kind(
        ProtocolError,
        f"the server names {path} for posts, which is not below {prefix} of base_url: "
        f"{error.message}",
        stage="session",
        remediation=f"Have the proxy pass {path} on to the server too, or serve it without the "
        f"prefix {prefix}, under a host name of its own.",
    )
