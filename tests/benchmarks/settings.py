"""How much is measured."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Settings:
    """
    How much is measured.

    Attributes:
        rounds: Turns of each contender, for the figures of a single message.
        starts: Processes of each contender, and rounds of the crowd.
        long_calls: Calls over which memory has to stay.
    """

    rounds: int = 30
    starts: int = 7
    long_calls: int = 5_000
