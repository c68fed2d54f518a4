"""Which agents' messages are worth fetching: not those of an agent that has to wait."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.circuit import Blocked

Rate = float | Mapping[str, float]

_MINUTE = 60.0
_KEPT_FOR = 86_400.0
_KEPT_AT_MOST = 1000
_COUNTED = 1000
_MOST_COUNTED = 1_000_000
_TRUSTED_FOR = 100  # messages


@attrs.define
class _Agent:
    """
    What is known about an agent. It changes under the lock.

    Attributes:
        sent_at: When attempts began, the last ones.
        reason: Why it rests.
        rests_until: Until when its messages are not sent.
        limited_until: Until when because of a limit or a rate, which end by themselves.
        full_until: Until when it has sent what may be sent: none of its messages is fetched.
        limit: How many messages the server took before it limited the agent; None if it did not.
        limit_before: How many it took the time before.
        is_limit_known: Whether it took as many both times.
        pause: How long the server then said to wait, in seconds.
        sent_since: How many attempts began since a message met the limit or the rate.
    """

    sent_at: deque[float]
    reason: str = ""
    rests_until: float = -math.inf
    limited_until: float = -math.inf
    full_until: float = -math.inf
    limit: int | None = None
    limit_before: int | None = None
    is_limit_known: bool = False
    pause: float = 0.0
    sent_since: int = _TRUSTED_FOR


class HandedOut:
    """
    How many messages one sweep has handed out to others, whose attempts may begin much later.

    Of an agent with a limit it hands out twice what may be sent, and one more: so a limit that was
    raised is noticed. It belongs to one thread.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._allowed: dict[str, int] = {}

    @property
    def total(self) -> int:
        """How many in all."""
        return self._counts.total()

    def add(self, messages: Iterable[FailedMessage]) -> None:
        """Count messages."""
        self._counts.update(message.agent_id or "" for message in messages)

    def left_of(self, shares: Mapping[str, int]) -> dict[str, int]:
        """Return what is left of the shares of agents; 0 or less for those that have had theirs."""
        for agent_id, share in shares.items():
            self._allowed.setdefault(agent_id, 2 * share + 1)
        return {
            agent_id: min(share, self._allowed[agent_id] - self._counts[agent_id])
            for agent_id, share in shares.items()
        }


class Agents:
    """
    Which agents rest, and how many messages of an agent are fetched. Safe to share between threads.

    While an agent rests, none of its rows is fetched, so a limit costs no row but the one that met
    it. After two limits in a row at the same number of messages the loop knows the number: having
    sent so many, the agent rests as long as the server said, without asking. Only after a hundred
    messages another one is tried, to see whether the limit is still the same. So a message costs
    three writes of its row, and three more in a hundred.

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
        self._kept_at_most = _KEPT_AT_MOST
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
        """Note that the server limited an agent, after an attempt that began: it rests."""
        with self._lock:
            agent, now = self._agent(agent_id), self._monotonic()
            if agent.limited_until <= now:  # several threads may meet the same limit
                agent.limit_before = agent.limit
            self._limit(agent, seconds, reason)
            if agent.sent_at:
                agent.sent_at.pop()  # this attempt sent nothing
            # If it was the first for long, it does not tell how many the server takes.
            taken = _sent(agent, now - max(seconds, _MINUTE))
            agent.limit, agent.pause = taken or agent.limit or 1, seconds
            if agent.limit + 1 >= _COUNTED:
                agent.limit = None  # they were not all counted; and so many cost little
            agent.is_limit_known = taken > 0 and agent.limit == agent.limit_before
            agent.sent_since = 0

    def begin(self, agent_id: str | None) -> Blocked | None:
        """Count an attempt that begins; return why it may not: the agent rests, or its rate."""
        rate = self._rate_of(agent_id)
        with self._lock:
            agent, now = self._agent(agent_id), self._monotonic()
            if agent.rests_until > now:
                return Blocked(agent.reason, agent.rests_until - now)
            if rate is not None:
                left = _rest_of_rate(agent, rate, now)
                if left > 0:
                    self._limit(agent, left, f"the rate of {rate:g} a minute is used up")
                    agent.sent_since = 0
                    return Blocked(agent.reason, left)
            agent.sent_at.append(now)
            agent.sent_since += 1
            if rate is not None:
                agent.full_until = now + _rest_of_rate(agent, rate, now)
            self._compare_with_limit(agent, now)
            return None

    def resting(self) -> list[str]:
        """Return the ids of the agents that rest; empty for messages that name none."""
        now = self._monotonic()
        with self._lock:
            return [
                name
                for name, agent in self._agents.items()
                if agent.rests_until > now or self._is_full(agent, now)
            ]

    def shares(self) -> dict[str, int]:
        """Return how many messages of an agent may be fetched, of those that have a limit."""
        now = self._monotonic()
        with self._lock:
            known: dict[str, int] = {}
            for name, agent in self._agents.items():
                rate = self._rate_of(name)
                left = []
                if agent.limit is not None:
                    left.append(agent.limit - _sent(agent, now - agent.pause))
                if rate is not None:
                    left.append(int(rate) - _sent(agent, now - _MINUTE))
                if left:
                    known[name] = max(1, min(left))
            return known

    def full(self) -> list[str]:
        """Return the ids of the agents that have sent what may be sent for now."""
        now = self._monotonic()
        with self._lock:
            return [name for name, agent in self._agents.items() if self._is_full(agent, now)]

    def wait(self, agent_id: str) -> None:
        """Note that an agent that has sent what may be sent has more messages."""
        with self._lock:
            agent = self._agent(agent_id)
            self._limit(agent, agent.full_until - self._monotonic(), agent.reason)

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

    def _compare_with_limit(self, agent: _Agent, now: float) -> None:
        """Note when an agent may go on, if the server will not take more now."""
        if agent.limit is None:
            return
        sent = _sent(agent, now - agent.pause)
        if sent >= agent.limit and agent.is_limit_known:
            agent.full_until = max(agent.full_until, now + agent.pause)
        if sent > 2 * agent.limit:
            agent.limit = None  # it was raised: learn it anew

    def _is_full(self, agent: _Agent, now: float) -> bool:
        return agent.full_until > now and agent.sent_since < _TRUSTED_FOR

    def _rate_of(self, agent_id: str | None) -> float | None:
        if isinstance(self._rate, Mapping):
            return self._rate.get(agent_id or "")
        return self._rate

    def _agent(self, agent_id: str | None) -> _Agent:
        name = agent_id or ""
        if name not in self._agents:
            self._forget_some()
            counted = min(max(_COUNTED, int(self._rate_of(agent_id) or 0)), _MOST_COUNTED)
            self._agents[name] = _Agent(deque(maxlen=counted))
        return self._agents[name]

    def _forget_some(self) -> None:
        # Hosts may have tenants for years: forget those that say nothing any more.
        if len(self._agents) <= self._kept_at_most:
            return
        now = self._monotonic()
        for name, agent in list(self._agents.items()):
            last = agent.sent_at[-1] if agent.sent_at else -math.inf
            until = max(agent.rests_until, agent.full_until, last + _KEPT_FOR)
            if until <= now:
                del self._agents[name]
        self._kept_at_most = max(_KEPT_AT_MOST, 2 * len(self._agents))


def _sent(agent: _Agent, since: float) -> int:
    """Return how many attempts began after this time."""
    return sum(1 for _ in takewhile(since.__lt__, reversed(agent.sent_at)))


def _rest_of_rate(agent: _Agent, rate: float, now: float) -> float:
    """Return for how many seconds the rate of an agent is used up; 0 or less if it is not."""
    count = max(1, int(rate))
    if len(agent.sent_at) < count:
        return 0.0
    # Less than one in a minute: the pause is longer.
    return agent.sent_at[-count] + _MINUTE / min(1.0, rate) - now


def _check_rate(rate: float | None) -> None:
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ArgumentTypeError("rate must be a number, or numbers by agent id")
    if not 0 < rate < math.inf:
        raise ArgumentValueError("rate must be above 0")
