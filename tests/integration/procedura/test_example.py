"""The example ``procedura`` runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.testing import FakeProceduraServer, ModuleFailure
from tests.integration.cli.process import ROOT, SECONDS, environment

EXAMPLE = ROOT / "examples" / "procedura" / "plant.py"


def place(args: list[str]) -> Generator[dict[str, Any], None, Any]:
    if "--n" not in args:
        raise ModuleFailure("how many?")
    yield {"message": "placed sprite 1/1"}
    return {"placed": 1}


@pytest.mark.parametrize(
    ("args", "code", "said", "complained"),
    [
        (["--dry-run", "--n", "1"], 0, "placed sprite 1/1\ndone: {'placed': 1}\n", ""),
        ([], 1, "", "the module failed: how many?\n"),
    ],
)
def test_example(
    procedura_server: FakeProceduraServer,
    tmp_path: Path,
    args: list[str],
    code: int,
    said: str,
    complained: str,
) -> None:
    """It tells how far it is, and how it ended."""
    procedura_server.module("place_ooi_sprites", place)
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *args],
        env=environment(PROCEDURA_URL=procedura_server.url, HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, said, complained)


def test_example_without_a_server(tmp_path: Path) -> None:
    """It says what to do."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=environment(PROCEDURA_URL="ws://127.0.0.1:9", HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert "not_sent" in done.stderr
    assert "-> " in done.stderr
