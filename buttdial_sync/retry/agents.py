"""Which agents' messages are worth fetching: not those of an agent that has to wait."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.retry.circuit import Blocked

Rate = float | Mapping[str, float]

_MINUTE = 60.0
_LONGEST_WINDOW = 86_400.0
_KEPT_AT_MOST = 1000


@attrs.define
class _Agent:
    """
    What is known about an agent. It changes under the lock.

    Attributes:
        reason: Why it rests.
        rests_until: Until when its messages are not sent.
        limited_until: Until when because of a limit or a rate, which end by themselves.
        sent_at: When attempts began in the last minute, of an agent with a rate.
        sent: How many began since its last limit.
        share: How many went through between the last two limits.
    """

    reason: str = ""
    rests_until: float = -math.inf
    limited_until: float = -math.inf
    sent_at: deque[float] = attrs.field(factory=deque)
    sent: int = 0
    share: int | None = None


class Agents:
    """
    Which agents rest, and how many messages of an agent are fetched. Safe to share between threads.

    While an agent rests, none of its rows is fetched, so a limit costs no row but the one that met
    it. After a limit no more of its rows are leased than went through between two limits.

    Args:
        rate: How many messages of an agent may be sent in a minute: a number for every agent, or by
            agent id. None for no rate.
        monotonic: A monotonic clock, in seconds.

    Raises:
        ArgumentTypeError: A rate is not a number.
        ArgumentValueError: A rate is not positive.
    """

    def __init__(self, rate: Rate | None, monotonic: Callable[[], float]) -> None:
        for each in rate.values() if isinstance(rate, Mapping) else [rate]:
            _check_rate(each)
        self._rate = rate
        self._monotonic = monotonic
        self._agents: dict[str, _Agent] = {}
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.Lock()

    def rest(self, agent_id: str | None, seconds: float, reason: str) -> None:
        """Send no messages of an agent for a time, and fetch none."""
        with self._lock:
            agent = self._agent(agent_id)
            agent.reason = reason
            agent.rests_until = max(agent.rests_until, self._monotonic() + seconds)

    def limited(self, agent_id: str | None, seconds: float, reason: str) -> None:
        """Note that the server limited an agent: it rests."""
        with self._lock:
            agent = self._agent(agent_id)
            self._limit(agent, seconds, reason)
            # The attempt that met the limit was counted too.
            agent.share, agent.sent = max(1, agent.sent - 1), 0

    def begin(self, agent_id: str | None) -> Blocked | None:
        """Count an attempt that begins; return why it may not: the agent rests, or its rate."""
        rate = self._rate_of(agent_id)
        with self._lock:
            agent, now = self._agent(agent_id), self._monotonic()
            if agent.rests_until > now:
                return Blocked(agent.reason, agent.rests_until - now)
            if rate is not None:
                _forget(agent.sent_at, now)
                # Less than one in a minute: the pause is longer.
                left = agent.sent_at[0] + _MINUTE / min(1.0, rate) - now if agent.sent_at else 0.0
                if left > 0 and len(agent.sent_at) >= max(1, int(rate)):
                    self._limit(agent, left, f"the rate of {rate:g} a minute is used up")
                    return Blocked(agent.reason, left)
                agent.sent_at.append(now)
            agent.sent += 1
            return None

    def resting(self) -> list[str]:
        """Return the ids of the agents that rest; empty for messages that name none."""
        now = self._monotonic()
        with self._lock:
            return [name for name, agent in self._agents.items() if agent.rests_until > now]

    def shares(self) -> dict[str, int]:
        """Return how many messages of an agent may be fetched, of those that were limited."""
        with self._lock:
            known = {
                name: max(1, agent.share - agent.sent)
                for name, agent in self._agents.items()
                if agent.share is not None
            }
            now = self._monotonic()
            for name, agent in self._agents.items():
                rate = self._rate_of(name)
                if rate is not None:
                    _forget(agent.sent_at, now)
                    left = max(1, int(rate) - len(agent.sent_at))
                    known[name] = min(known.get(name, left), left)
            return known

    @property
    def pause(self) -> float:
        """Seconds until the first limit of an agent is over; 0 when there is none."""
        now = self._monotonic()
        with self._lock:
            left = [agent.limited_until - now for agent in self._agents.values()]
        return min((each for each in left if each > 0), default=0.0)

    def _limit(self, agent: _Agent, seconds: float, reason: str) -> None:
        agent.reason = reason
        agent.limited_until = max(agent.limited_until, self._monotonic() + seconds)
        agent.rests_until = max(agent.rests_until, agent.limited_until)

    def _rate_of(self, agent_id: str | None) -> float | None:
        if isinstance(self._rate, Mapping):
            return self._rate.get(agent_id or "")
        return self._rate

    def _agent(self, agent_id: str | None) -> _Agent:
        # Hosts may have tenants for years: forget those that say nothing any more.
        if len(self._agents) > _KEPT_AT_MOST:
            now = self._monotonic()
            for name, agent in list(self._agents.items()):
                _forget(agent.sent_at, now)
                if agent.rests_until <= now and not agent.sent_at:
                    del self._agents[name]
        return self._agents.setdefault(agent_id or "", _Agent())


def _forget(sent_at: deque[float], now: float) -> None:
    """Forget what began more than a minute ago, but for the last."""
    while len(sent_at) > 1 and sent_at[0] <= now - _MINUTE:
        sent_at.popleft()
    if sent_at and sent_at[0] <= now - _LONGEST_WINDOW:
        sent_at.clear()


def _check_rate(rate: float | None) -> None:
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ArgumentTypeError("rate must be a number, or numbers by agent id")
    if not 0 < rate < math.inf:
        raise ArgumentValueError("rate must be above 0")
