"""The way to the server for the live connection: the same proxies and certificates as for REST."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
import requests.utils
from urllib3.exceptions import HTTPError

from buttdial_sync.errors import ButtDialError
from buttdial_sync.happy.errors import HappyConfigError, happy_error
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.descriptors import KeptSocket
from buttdial_sync.transport.failures import clear_frames, failure_of
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.tunnel import connect_socket


def connected_socket(url: str, network: NetworkOptions, progress: RequestProgress) -> KeptSocket:
    """
    Connect, through a proxy and up to the end of the TLS handshake where there are these.

    Args:
        url: The server, as http(s).
        network: The client's proxies and certificates.
        progress: Has the deadline; :meth:`RequestProgress.abort` ends the attempt.

    Returns:
        The socket, for the caller to close.

    Raises:
        HappyError: There is no way. Nothing was sent.
    """
    try:
        return _connected(url, network, progress)
    except ButtDialError as error:
        failure = happy_error(error)
    except (HTTPError, OSError, ValueError) as error:
        failure = happy_error(failure_of(error, progress, url, closed=False))
        clear_frames(error)
    failure.outcome = "not_sent"
    try:
        raise failure.with_traceback(None)  # the frames below hold the proxy's login
    finally:
        del failure  # its traceback holds this frame, and so the whole client


def _connected(url: str, network: NetworkOptions, progress: RequestProgress) -> KeptSocket:
    with requests.Session() as session:
        found = network.for_url(url, session)
    proxy = _proxy_of(url, found["proxies"])
    return connect_socket(url, proxy, progress, **_tls(found["verify"], found["cert"]))


def _proxy_of(url: str, proxies: dict[str, str]) -> SplitResult | None:
    found = requests.utils.select_proxy(url, proxies)
    if not found:
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http":
        raise HappyConfigError(
            f"the live connection cannot go through a proxy of this kind ({proxy.scheme})",
            remediation="Give an http:// proxy, or name the host in NO_PROXY.",
        )
    return proxy


def _tls(verify: bool | str, cert: str | tuple[str, str] | None) -> dict[str, Any]:
    trusted = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
    certificate, key = cert if isinstance(cert, tuple) else (cert, None)
    return {
        "cert_reqs": "CERT_REQUIRED",
        "ca_cert_dir" if os.path.isdir(trusted) else "ca_certs": trusted,
        "cert_file": certificate,
        "key_file": key,
    }
