"""The options of a client about its network: certificates, proxies, headers, its own adapter."""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urlsplit

import attrs
import requests
from attrs.converters import optional
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import prepend_scheme_if_needed, select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ConfigError
from buttdial_sync.errors.scrubbing import Secret

ClientCert: TypeAlias = "str | tuple[str, str]"

_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})
_PRIVATE_SCHEMES = frozenset({"https", "wss"})
# The library sets them itself, and each has to say what it says.
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "idempotency-key",
        "transfer-encoding",
    }
)


def is_this_machine(url: str) -> bool:
    """Whether the URL's host is a loopback address or ``localhost``."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(url: str, insecure_hosts: Collection[str] = ()) -> bool:
    """Whether a token may be sent there: over TLS, to this machine, or to a host that is named."""
    parts = urlsplit(url)
    if parts.scheme in _PRIVATE_SCHEMES or is_this_machine(url):
        return True
    return (parts.hostname or "").lower() in {host.lower() for host in insecure_hosts}


def _path(value: object, name: str) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ArgumentTypeError(f"{name} must be a path")
    path = os.fspath(value)
    if not os.path.exists(path):
        raise ArgumentValueError(f"{name}: there is nothing at {path}")
    return path


def _checked_bundle(value: object) -> str:
    path = _path(value, "ca_bundle")
    if not os.path.isdir(path):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            raise ArgumentValueError(
                f"ca_bundle: {path} does not hold certificates in PEM ({_reason(error)})"
            ) from None
    return path


def _checked_client_cert(value: Any) -> ClientCert:
    parts = value if isinstance(value, tuple | list) else (value,)
    if len(parts) not in {1, 2}:
        raise ArgumentTypeError("client_cert must be one path, or those of certificate and key")
    paths = [_path(part, "client_cert") for part in parts]
    key = paths[1] if len(paths) > 1 else None
    try:
        # With a password, or OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(paths[0], key, password="")
    except OSError as error:
        raise ArgumentValueError(
            f"client_cert: {' and '.join(paths)} cannot be used ({_reason(error)})",
            remediation="Give a certificate and its key in PEM; the key must not be encrypted.",
        ) from None
    return paths[0] if key is None else (paths[0], key)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _checked_proxies(proxies: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(proxies, Mapping):
        raise ArgumentTypeError('proxies must be a dict, as in {"https": "http://proxy:3128"}')
    for scheme, proxy in proxies.items():
        if scheme.partition("://")[0] not in {"http", "https", "all"}:
            raise ArgumentValueError(
                f'proxies: {scheme!r} is not "http", "https" or "all", with a host or without'
            )
        _check_proxy(proxy, "proxies")
    return {scheme: Secret(proxy) for scheme, proxy in proxies.items()}


def _check_proxy(proxy: object, name: str) -> None:
    """Check a proxy's address. It may hold a password, so it is not shown."""
    if not isinstance(proxy, str):
        raise ArgumentTypeError(f"{name}: a proxy must be text")
    try:
        address = parse_url(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
    except (LocationParseError, ValueError):
        address = parse_url("")
    if not address.host or address.scheme not in _PROXY_SCHEMES:
        raise ConfigError(
            f"{name}: the address of the proxy is malformed",
            remediation="Give it as http://host:port, https:// or socks5h://; quote the login.",
        )
    if address.scheme.startswith("socks") and find_spec("socks") is None:
        raise ConfigError(
            f"{name}: SOCKS proxies need PySocks", remediation="pip install 'requests[socks]'"
        )


def _checked_headers(headers: Mapping[Any, Any] | None) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ArgumentTypeError("headers must be a dict")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ArgumentTypeError("headers: names and values must be text")
        if name.strip().lower() in _OWN_HEADERS:
            raise ArgumentValueError(
                f"headers: {name} is set by the library",
                remediation="Give a token as agent_token or team_token; leave the others out.",
            )
    # They may hold what lets a request pass a gateway.
    kept: dict[str, str] = {name: Secret(value) for name, value in headers.items()}
    try:
        requests.PreparedRequest().prepare_headers(kept)
        "".join((*kept, *kept.values())).encode("latin-1")
    except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
        raise ArgumentValueError("headers: one of them cannot be sent in a request") from None
    return kept


def _checked_adapter(adapter: object) -> BaseAdapter:
    if not isinstance(adapter, BaseAdapter):
        raise ArgumentTypeError("transport_adapter must be a requests.adapters.BaseAdapter")
    if isinstance(adapter, HTTPAdapter) and adapter.max_retries.total:
        raise ArgumentValueError(
            "transport_adapter: max_retries must be 0",
            remediation="The client repeats what may be repeated: see max_attempts.",
        )
    return adapter


@attrs.frozen(kw_only=True)
class NetworkOptions:
    """
    How a client reaches its server. Each option that is None leaves it to the environment.

    Attributes:
        ca_bundle: Path of the certificates that the server's is checked with, in PEM; a file, or a
            directory as OpenSSL wants it.
        client_cert: Path of a PEM file with the client's certificate and its key, or both paths.
        proxies: The proxy for each scheme, as for ``requests``; empty for none.
        headers: Sent with every request.
        transport_adapter: Sends the requests instead of the library's own.

    Raises:
        ConfigError: One of them is wrong.
    """

    ca_bundle: str | None = attrs.field(default=None, converter=optional(_checked_bundle))
    client_cert: ClientCert | None = attrs.field(
        default=None, converter=optional(_checked_client_cert)
    )
    proxies: Mapping[str, str] | None = attrs.field(
        default=None, converter=optional(_checked_proxies), repr=False
    )
    headers: Mapping[str, str] = attrs.field(default=None, converter=_checked_headers, repr=False)
    transport_adapter: BaseAdapter | None = attrs.field(
        default=None, converter=optional(_checked_adapter)
    )

    def for_url(self, url: str, session: requests.Session) -> Mapping[str, Any]:
        """
        Return the arguments ``proxies``, ``verify`` and ``cert`` of a request.

        The proxies of the environment are not for this machine: another one could not reach it, and
        what is sent unencrypted here would leave the machine.

        Raises:
            ConfigError: The environment names a proxy or certificates that cannot be used.
        """
        found = session.merge_environment_settings(url, {}, None, self.ca_bundle, self.client_cert)
        proxies = self.proxies
        if proxies is None:
            proxies = {} if is_this_machine(url) else found["proxies"]
        proxy = select_proxy(url, dict(proxies))
        if proxy:
            _check_proxy(proxy, "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
        verify = found["verify"]
        if isinstance(verify, str) and not os.path.exists(verify):
            raise ConfigError(
                f"there are no certificates at {verify}",
                remediation="Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, or give ca_bundle.",
            )
        return {"proxies": dict(proxies), "verify": verify, "cert": found["cert"]}


def address_of(url: str, schemes: Collection[str]) -> SplitResult | None:
    """Return the parts of a URL that has one of these schemes and names a host; else None."""
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in schemes and parts.hostname and parts.port != 0
    except (AttributeError, ValueError):
        return None
    return parts if is_address else None
