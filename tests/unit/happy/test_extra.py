"""Without the extra: what is missing is named, and so is what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WITHOUT = "import sys; sys.modules[{missing!r}] = None; {then}"


def python(missing: str, then: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing, then=then)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("missing", ["nacl", "cryptography", "socketio"])
def test_the_extra_is_named(missing: str) -> None:
    """The import says which extra it needs, and the command says it without a traceback."""
    imported = python(missing, "import buttdial_sync.happy as happy; happy.HappyClient")
    assert imported.returncode == 1
    assert "pip install 'buttdial-sync[happy]'" in imported.stderr.splitlines()[-1]
    command = "from buttdial_sync.cli import main; main(['happy', 'machines'])"
    commanded = python(missing, command)
    assert (commanded.returncode, "Traceback" in commanded.stderr) == (2, False)
    assert "buttdial-sync[happy]" in commanded.stderr


def test_the_rest_does_not_need_it() -> None:
    """The package, its client, its command line and its test kit load without the extra."""
    then = "import buttdial_sync.cli, buttdial_sync.testing, buttdial_sync.client"
    for missing in ("nacl", "cryptography", "socketio"):
        assert python(missing, then).returncode == 0
