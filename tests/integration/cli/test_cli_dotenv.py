"""The ``.env`` file of the working directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.cli.process import run

TOKEN = "agent-token-of-the-tests"
_WITHOUT_THE_EXTRA = (
    "-c",
    "import sys; sys.modules['dotenv'] = None; from buttdial_sync.cli import main; main()",
)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


def write(directory: Path, base_url: str, token: str = TOKEN) -> None:
    text = f'BUTT_DIAL_BASE_URL={base_url}\nexport BUTT_DIAL_AGENT_TOKEN="{token}"\nOTHER\n'
    (directory / ".env").write_text(text, "utf-8")


def test_dotenv_is_read(tmp_path: Path, server: LoopbackServer) -> None:
    """Address and token may stand in .env; the token is not shown."""
    write(tmp_path, server.base_url)
    done = run("ping", "-v", cwd=tmp_path)
    assert done.returncode == 0
    assert TOKEN not in done.stdout + done.stderr


def test_the_environment_wins(tmp_path: Path, server: LoopbackServer) -> None:
    """The environment wins, also under the address's other name, unless it is blank."""
    write(tmp_path, "http://127.0.0.1:9", "stale-token")
    done = run("ping", cwd=tmp_path, BUTT_DIAL_URL=server.base_url, BUTT_DIAL_AGENT_TOKEN=TOKEN)
    assert done.returncode == 0
    write(tmp_path, server.base_url)
    assert run("ping", cwd=tmp_path, BUTT_DIAL_AGENT_TOKEN=" ").returncode == 0


def test_only_the_working_directory(tmp_path: Path, server: LoopbackServer) -> None:
    """A .env further up is not read: who wrote it is not known."""
    write(tmp_path, server.base_url)
    inner = tmp_path / "inner"
    inner.mkdir()
    assert run("ping", cwd=inner).returncode == 2


def test_without_the_extra(tmp_path: Path, server: LoopbackServer) -> None:
    """Without python-dotenv a .env with our settings is not read, and that is said."""
    write(tmp_path, server.base_url)
    done = run("ping", cwd=tmp_path, program=_WITHOUT_THE_EXTRA)
    assert done.returncode == 2
    assert done.stderr.startswith("Note: .env is not read: this needs buttdial-sync[dotenv].\n")


def test_a_dotenv_of_others(tmp_path: Path) -> None:
    """A .env without our settings, or a directory of that name, is no matter of ours."""
    (tmp_path / ".env").write_text("SECRET=1\n", "utf-8")
    done = run("ping", cwd=tmp_path, program=_WITHOUT_THE_EXTRA)
    assert done.stderr.startswith("Error: no server is configured")
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert run("ping", cwd=tmp_path).stderr.startswith("Error: no server is configured")


def test_a_dotenv_that_is_no_text(tmp_path: Path) -> None:
    """A .env that cannot be read ends with exit code 2, not with a traceback."""
    (tmp_path / ".env").write_bytes(b"BUTT_DIAL_BASE_URL=\xff\xfe")
    done = run("ping", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: .env cannot be read")
