"""Real proxies on loopback, one for a test. The test is skipped where it is not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from buttdial_sync.testing import LoopbackServer
from tests.ports import free_port

PATIENCE = 30.0
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen {listen}; {rules} }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  {rules}
frontend all
  bind {listen}
  default_backend server
backend server
  server one {server}
"""
VARNISH = """
vcl 4.1;
backend default {{ .host = "{host}"; .port = "{port}"; {rules} }}
sub vcl_recv {{ if (req.url ~ "^/sse") {{ return (pipe); }} return (pass); }}
"""
TINYPROXY = """
Port {listen_port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
Allow 127.0.0.1
{rules}
"""


@contextmanager
def nginx(server: LoopbackServer, folder: Path, rules: str) -> Iterator[str]:
    """Give the address of nginx; in the rules SERVER stands for the server's address."""
    made = rules.replace("SERVER", server.base_url)
    with _running("nginx", folder, NGINX, ["-p", str(folder), "-e", "stderr", "-c"], made) as url:
        yield url


@contextmanager
def haproxy(server: LoopbackServer, folder: Path, rules: str) -> Iterator[str]:
    """Give the address of HAProxy; the rules are its defaults."""
    with _running("haproxy", folder, HAPROXY, ["-db", "-f"], rules, server) as url:
        yield url


@contextmanager
def varnish(server: LoopbackServer, folder: Path, rules: str) -> Iterator[str]:
    """Give the address of Varnish; the rules are its backend's."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler, with which Varnish translates its configuration")
    # Without its jail, whose user may not read the test's folder when root runs the tests.
    arguments = ["-j", "none", "-F", "-n", str(folder / "varnish"), "-s", "malloc,16m", "-f"]
    with _running("varnishd", folder, VARNISH, arguments, rules, server) as url:
        yield url


@contextmanager
def tinyproxy(folder: Path, rules: str = "") -> Iterator[str]:
    """Give the address of a forward proxy."""
    with _running("tinyproxy", folder, TINYPROXY, ["-d", "-c"], rules) as url:
        yield url


@contextmanager
def _running(
    program: str,
    folder: Path,
    template: str,
    arguments: list[str],
    rules: str,
    server: LoopbackServer | None = None,
) -> Iterator[str]:
    path = shutil.which(program, path=_PATH)
    if path is None:
        pytest.skip(f"needs {program}: apt-get install {program.removesuffix('d')}")
    port = free_port()
    target = urlsplit(server.base_url) if server else urlsplit("")
    configuration = folder / f"{program}.conf"
    configuration.write_text(
        template.format(
            folder=folder,
            listen=f"127.0.0.1:{port}",
            listen_port=port,
            server=target.netloc,
            host=target.hostname,
            port=target.port,
            rules=rules,
        )
    )
    command = [path, *arguments, str(configuration)]
    if program == "varnishd":
        command += ["-a", f"127.0.0.1:{port}"]
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process, folder / f"{program}.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    raise AssertionError(log.read_text())
