"""The options about the network: what is refused at once, and what wins over the environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from buttdial_sync import AccountsClient, Client, ConfigError
from buttdial_sync.transport.network import NetworkOptions

CERTIFICATE = str(Path(__file__).parents[2] / "integration/doctor/self_signed.pem")
URL = "https://h.test/x"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ca_bundle": "/no/such.pem"}, "ca_bundle: there is nothing at /no/such.pem"),
    ({"ca_bundle": __file__}, "does not hold certificates"),
    ({"ca_bundle": True}, "ca_bundle must be a path"),
    ({"client_cert": "/no/such.pem"}, "client_cert: there is nothing at"),
    ({"client_cert": (CERTIFICATE, "/no/such.pem")}, "client_cert: there is nothing at"),
    ({"client_cert": __file__}, r"cannot be used \(.*SSL"),
    ({"client_cert": str(Path(__file__).parent)}, r"cannot be used \(Is a directory\)"),
    ({"client_cert": (CERTIFICATE, __file__)}, "cannot be used"),
    ({"client_cert": (CERTIFICATE,) * 3}, "must be one path"),
    ({"client_cert": 5}, "client_cert must be a path"),
    ({"proxies": "http://proxy:3128"}, "proxies must be a dict"),
    ({"proxies": {"ftp": "http://proxy:3128"}}, "'ftp' is not"),
    ({"proxies": {"https": None}}, "must be text"),
    ({"proxies": {"https": ""}}, "malformed"),
    ({"proxies": {"https": "http://"}}, "malformed"),
    ({"proxies": {"https": "http://user:s3cret@:3128"}}, "malformed"),
    ({"proxies": {"https": "http://proxy:port"}}, "malformed"),
    ({"proxies": {"https": "http://proxy:99999"}}, "malformed"),
    ({"proxies": {"https": "gopher://proxy"}}, "malformed"),
    ({"headers": [("X-Y", "1")]}, "headers must be a dict"),
    ({"headers": {"X-Y": 1}}, "must be text"),
    ({"headers": {5: "1"}}, "must be text"),
    ({"headers": {"authorization ": "Bearer s3cret"}}, "is set by the library"),
    ({"headers": {"Authorization": "Bearer s3cret"}}, "is set by the library"),
    ({"headers": {"Content-Length": "1"}}, "is set by the library"),
    ({"headers": {"X-Y": "s3cret\r\nX-Z: 1"}}, "cannot be sent"),
    ({"headers": {"X-Y": "s3cret\u20ac"}}, "cannot be sent"),
    ({"headers": {"X Y:": "s3cret\n"}}, "cannot be sent"),
    ({"transport_adapter": requests.Session()}, "must be a requests.adapters.BaseAdapter"),
    ({"transport_adapter": HTTPAdapter(max_retries=1)}, "max_retries must be 0"),
    ({"transport_adapter": HTTPAdapter(max_retries=Retry(2))}, "max_retries must be 0"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("kind", [Client, AccountsClient])
def test_wrong_options(kind: type[Client], options: dict[str, Any], words: str) -> None:
    """Nobody learns of them by a failed call; what may hold a secret is not shown."""
    with pytest.raises(ConfigError, match=words) as caught:
        kind("https://h.test", **options)
    assert "s3cret" not in str(caught.value)
    assert "(None)" not in str(caught.value)  # OpenSSL's reason


def test_encrypted_key_is_not_asked_for(tmp_path: Path) -> None:
    """OpenSSL would ask for its password on the terminal, in the middle of a request."""
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:geheim", "-out", str(key)],
        input=subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True).stdout,
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="cannot be used"):
        NetworkOptions(client_cert=(CERTIFICATE, str(key)))


def test_socks_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is said, where it is not installed."""
    installed = ModuleType("socks")
    installed.__spec__ = ModuleSpec("socks", None)
    monkeypatch.setitem(sys.modules, "socks", installed)
    NetworkOptions(proxies={"https": "socks5h://proxy:1080"})
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(ConfigError, match="PySocks") as caught:
        NetworkOptions(proxies={"https": "socks5h://proxy:1080"})
    assert caught.value.remediation == "pip install 'requests[socks]'"


@pytest.mark.parametrize(
    "proxies",
    [
        {},
        {"https": "http://proxy:3128"},
        {"all": "127.0.0.1:3128"},
        {"https://h.test": "https://user:pass@proxy.example"},
        {"http": "http://[::1]:3128"},
    ],
    ids=str,
)
def test_proxies(proxies: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand instead of the environment's, all of them; none is a choice too."""
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:3128")
    options = NetworkOptions(proxies=proxies)
    assert options.for_url(URL, requests.Session())["proxies"] == proxies
    assert "pass" not in repr(options)
    assert "proxies" not in repr(options)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given comes from there, as with requests."""
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", CERTIFICATE)
    found = NetworkOptions().for_url(URL, requests.Session())
    assert found["proxies"]["https"] == "http://environment:3128"
    assert (found["verify"], found["cert"]) == (CERTIFICATE, None)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:3100", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxies_of_the_environment_are_not_for_this_machine(
    scheme: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy elsewhere cannot reach it, and would read what is sent to it."""
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://environment:3128")
    url = f"{scheme}://{host}/x"
    assert NetworkOptions().for_url(url, requests.Session())["proxies"] == {}
    given = NetworkOptions(proxies={scheme: "http://debugger:8080"})
    assert given.for_url(url, requests.Session())["proxies"] == {scheme: "http://debugger:8080"}


def test_certificates_win_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's own bundle is its own; a directory of certificates will do."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
    for bundle in (CERTIFICATE, tmp_path):
        options = NetworkOptions(ca_bundle=bundle, client_cert=Path(CERTIFICATE))
        found = options.for_url(URL, requests.Session())
        assert (found["verify"], found["cert"]) == (str(bundle), CERTIFICATE)


def test_certificate_and_key_in_files_of_their_own(tmp_path: Path) -> None:
    """Each goes to its place."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    begin = "-----BEGIN CERTIFICATE-----"
    key_text, _, certificate_text = Path(CERTIFICATE).read_text().partition(begin)
    certificate.write_text(f"{begin}{certificate_text}")
    key.write_text(key_text)
    found = NetworkOptions(client_cert=[certificate, key]).for_url(URL, requests.Session())
    assert found["cert"] == (str(certificate), str(key))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "http://user:s3cret@:3128", "malformed"),
        ("ALL_PROXY", "gopher://proxy", "malformed"),
        ("REQUESTS_CA_BUNDLE", "/no/such.pem", "no certificates at /no/such.pem"),
        ("CURL_CA_BUNDLE", "/no/such.pem", "no certificates at /no/such.pem"),
    ],
)
def test_wrong_environment(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting is wrong, so no attempt is made; the first call says so."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, value)
    slept: list[float] = []
    with Client("https://h.test", agent_token="t", sleep=slept.append) as client:
        with pytest.raises(ConfigError, match=words) as caught:
            client.ping()
        assert "s3cret" not in str(caught.value)
    assert slept == []


def test_headers_are_not_shown() -> None:
    """They may hold what lets a request pass a gateway."""
    options = NetworkOptions(headers={"CF-Access-Client-Secret": "s3cret"})
    assert "headers" not in repr(options)
    assert "s3cret" not in repr(options.headers)
