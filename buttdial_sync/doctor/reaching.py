"""Whether something answers at the address, and in the language that the address says."""

from __future__ import annotations

import re

import requests

from buttdial_sync.connection import Connection
from buttdial_sync.errors import ButtDialError, ConfigError, TransportError
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.failures import REMEDIES

LONGEST_WAIT = 10.0
"""In seconds, for each of the stages before the first tool: a silent server says nothing later."""

TLS_PORT, HTTP_PORT = "TLS_PORT", "HTTP_PORT"
TLS_PORT_REMEDY = "This port speaks TLS: write https:// instead of http:// in base_url."
HTTP_PORT_REMEDY = (
    "This port speaks plain HTTP: give the server's port for https, or write http:// in base_url "
    "if the server is on this machine or in a network that you trust."
)
SILENT_REMEDY = (
    "The server did not answer. Look at its log, and at the firewalls and proxies on the way. "
    f"The doctor waits {LONGEST_WAIT:g} s at most here, a client as long as its timeout."
)
_PROXY_WANTS_LOGIN = 407
# What nginx, Apache and servers in Go answer to plain HTTP on a port for TLS, and what OpenSSL says
# of an answer that is not TLS.
_WANTS_TLS = re.compile(
    r"plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled server port"
    r"|sent an HTTP request to an HTTPS server",
)
# What it says of a certificate that it does not trust, and of a server that refuses in TLS.
_IS_TLS = re.compile(r"no secure connection.*(?:certificate|\balert\b)", re.IGNORECASE)
_IS_NOT_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure")


def first_deadline(connection: Connection) -> Deadline:
    """Return the deadline of an early stage that begins now."""
    return connection.deadline(min(connection.timeout, LONGEST_WAIT))


def get_root(connection: Connection, base_url: str) -> requests.Response:
    """
    Ask for the address itself, without a token; whatever is answered is an answer.

    Raises:
        ConfigError: The port speaks TLS, or does not, and the address says otherwise.
        ProtocolError: It is a redirect.
        TransportError: There was no answer, or a proxy gave it.
    """
    try:
        response = _get(connection, f"{base_url}/")
    except TransportError as error:
        if base_url.startswith("https:") and _IS_NOT_TLS.search(error.message):
            raise _wrong_scheme(error.message, HTTP_PORT, HTTP_PORT_REMEDY) from None
        is_broken = error.code is None and base_url.startswith("http:")
        if is_broken and _speaks_tls(connection, base_url):
            raise _wrong_scheme(error.message, TLS_PORT, TLS_PORT_REMEDY) from None
        if error.code == "TIMEOUT":
            error.remediation = SILENT_REMEDY
        error.outcome = "not_sent"  # nothing was asked for that could have been carried out
        raise
    if response.status_code == _PROXY_WANTS_LOGIN:
        raise TransportError(
            "the proxy wants a login (HTTP 407)", code="PROXY", remediation=REMEDIES["PROXY"]
        )
    if response.status_code == requests.codes.bad_request and _WANTS_TLS.search(response.text):
        raise _wrong_scheme("HTTP 400: the server wants TLS", TLS_PORT, TLS_PORT_REMEDY)
    return response


def _get(connection: Connection, url: str) -> requests.Response:
    request = connection.http.prepare("GET", url, headers={})
    response, _ = connection.http.send(request, first_deadline(connection))
    return response


def _speaks_tls(connection: Connection, base_url: str) -> bool:
    try:
        _get(connection, f"{base_url.replace('http:', 'https:', 1)}/")
    except ButtDialError as error:
        return bool(_IS_TLS.search(error.message))
    return True


def _wrong_scheme(message: str, code: str, remedy: str) -> ConfigError:
    return ConfigError(message, code=code, remediation=remedy)
