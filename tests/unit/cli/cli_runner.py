"""Runs the command line inside of the test's process."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from buttdial_sync.cli import main
from buttdial_sync.testing import LoopbackServer

TOKEN = "agent-token-of-the-tests"
_VARIABLES = ("BASE_URL", "URL", "AGENT_ID", "AGENT_TOKEN", "TEAM_TOKEN", "TOKEN_IN")
# Before click 8.2 the two outputs were mixed unless one asked for it.
SEPARATED: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)


def run(
    *args: str,
    server: LoopbackServer | None = None,
    directory: Path | None = None,
    **variables: str | None,
) -> Result:
    """
    Run a command.

    Args:
        *args: The command and its options.
        server: The server that the environment names, with a token for it.
        directory: Where it runs; in an empty directory if None.
        **variables: Further variables of the environment, without ``BUTT_DIAL_``.
    """
    found: dict[str, str | None] = dict.fromkeys(_VARIABLES)
    if server is not None:
        found |= {"BASE_URL": server.base_url, "AGENT_TOKEN": TOKEN}
    found |= variables
    runner = CliRunner(
        env={"no_proxy": "127.0.0.1", **{f"BUTT_DIAL_{name}": found[name] for name in found}},
        **SEPARATED,
    )
    with tempfile.TemporaryDirectory() as empty, _inside(str(directory or empty)):
        return runner.invoke(main, args)


@contextmanager
def _inside(directory: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
