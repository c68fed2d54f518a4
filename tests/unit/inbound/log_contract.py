"""What every delivery log has to do, in memory or in a database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from buttdial_sync import DeliveryInProgressError, DeliveryLog

LEASE = 60.0
Advance = Callable[[float], None]


class DeliveryLogContract:
    """Inherit it, and give the fixtures ``log`` and ``advance``: its clock goes on by seconds."""

    def test_what_is_done_stays_done(self, log: DeliveryLog, advance: Advance) -> None:
        """What was handed over is not claimed again, however late, nor given back."""
        token = claimed(log)
        log.done("a", token)
        log.release("a", token)
        advance(3600.0)
        assert log.claim("a", LEASE) is None
        assert claimed(log, "b")

    def test_a_released_claim_is_free_at_once(self, log: DeliveryLog) -> None:
        """After a failure the sender's retry comes through; releasing the unknown does nothing."""
        log.release("a", claimed(log))
        assert claimed(log)
        log.release("never claimed", "0")

    def test_a_claim_ends_with_its_lease(self, log: DeliveryLog, advance: Advance) -> None:
        """A claim holds others off for its lease; then one other gets it, with another token."""
        first = claimed(log)
        advance(LEASE - 1.0)
        assert_busy(log)
        advance(1.0)
        assert claimed(log) != first
        assert_busy(log)

    def test_a_late_release_leaves_the_next_claim(self, log: DeliveryLog, advance: Advance) -> None:
        """Who outlived its lease and failed does not free the claim of who took over."""
        first = claimed(log)
        advance(LEASE)
        second = claimed(log)
        log.release("a", first)
        assert_busy(log)
        log.release("a", second)
        assert claimed(log)

    def test_a_late_release_does_not_undo_a_success(
        self, log: DeliveryLog, advance: Advance
    ) -> None:
        """The first fails after the second has succeeded: it was handed over."""
        first = claimed(log)
        advance(LEASE)
        log.done("a", claimed(log))
        log.release("a", first)
        assert log.claim("a", LEASE) is None

    def test_the_second_is_done_after_a_late_release(
        self, log: DeliveryLog, advance: Advance
    ) -> None:
        """The first fails while the second is still at it: the second's success is remembered."""
        first = claimed(log)
        advance(LEASE)
        second = claimed(log)
        log.release("a", first)
        log.done("a", second)
        advance(3600.0)
        assert log.claim("a", LEASE) is None

    @pytest.mark.parametrize("releases_first", [False, True])
    def test_a_late_success_is_remembered(
        self, log: DeliveryLog, advance: Advance, releases_first: bool
    ) -> None:
        """The first succeeds late, the second fails before or after that: it was handed over."""
        first = claimed(log)
        advance(LEASE)
        second = claimed(log)
        if releases_first:
            log.release("a", second)
        log.done("a", first)
        log.release("a", second)
        advance(3600.0)
        assert log.claim("a", LEASE) is None

    def test_the_token_of_a_released_claim_is_not_given_again(self, log: DeliveryLog) -> None:
        """A claim that was released and made anew is another one."""
        first = claimed(log)
        log.release("a", first)
        second = claimed(log)
        log.release("a", first)
        assert second != first
        assert_busy(log)


def claimed(log: DeliveryLog, delivery_id: str = "a") -> str:
    token = log.claim(delivery_id, LEASE)
    assert token is not None
    return token


def assert_busy(log: DeliveryLog) -> None:
    with pytest.raises(DeliveryInProgressError):
        log.claim("a", LEASE)
