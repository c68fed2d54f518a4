"""A PgBouncer of the tests' own, between them and their PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.contrib.running import wait_for_port
from tests.integration.retry.postgres import step_down
from tests.ports import free_port

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
_SECONDS = 30.0
_CONFIGURATION = """
[databases]
postgres = host={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
logfile = {home}/log
"""


def program() -> str | None:
    """Return where PgBouncer is, or None: it comes with ``apt-get install pgbouncer``."""
    return shutil.which("pgbouncer", path=_PATH)


@contextmanager
def running(address: str) -> Iterator[int]:
    """
    Run it in transaction mode, with one connection to the server, which all clients take turns at.

    Args:
        address: The server's, as :func:`tests.integration.retry.postgres.running` gives it.

    Yields:
        Its port on loopback.
    """
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    port = free_port()
    settings = {"server": address.split("host=")[1], "port": port, "home": home}
    (home / "ini").write_text(_CONFIGURATION.format(**settings))
    user = step_down(home)  # it refuses to be root
    bouncer = subprocess.Popen(
        [str(program()), "-q", str(home / "ini")], stdin=subprocess.DEVNULL, cwd="/", **user
    )
    try:
        wait_for_port(port, bouncer)
        yield port
    finally:
        bouncer.kill()
        bouncer.wait(_SECONDS)
        shutil.rmtree(home, ignore_errors=True)
