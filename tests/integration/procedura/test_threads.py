"""Each thread gets its own answers; the long version is ``python -m tests.stress.procedura``."""

from __future__ import annotations

from typing import get_args

import pytest

from buttdial_sync.testing import Addressing
from tests.integration.procedura.crowd import rounds


@pytest.mark.parametrize("addressing", get_args(Addressing))
def test_threads_share_a_connection(addressing: Addressing) -> None:
    """Calls and streams mixed, in each way of naming them, without a gap between the frames."""
    assert rounds(addressing, count=1, calls=10) == []
