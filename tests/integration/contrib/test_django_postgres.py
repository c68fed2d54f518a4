"""The delivery log on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.integration.contrib.claims import EXPECTED
from tests.integration.contrib.running import ROOT
from tests.integration.retry.postgres import binaries, running

pytestmark = pytest.mark.skipif(
    binaries() is None or find_spec("psycopg") is None, reason="needs PostgreSQL"
)


def test_claims_of_many_at_once() -> None:
    """Of several workers one gets each claim; late ones change nothing but that it was done."""
    with running() as address:
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.contrib.claims", address.split("host=")[1]],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert json.loads(done.stdout) == EXPECTED
