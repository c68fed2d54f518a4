"""The report of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from buttdial_sync.errors import Outcome

StageStatus = Literal["ok", "failed", "skipped"]

_SIGNS = {"ok": "✓", "failed": "✗", "skipped": "○"}
_PLAIN_SIGNS = {"ok": "OK", "failed": "FAIL", "skipped": "SKIP"}


@attrs.frozen(kw_only=True)
class DoctorStage:
    """
    One stage of a diagnosis. Exactly one of :attr:`ok`, :attr:`failed`, :attr:`skipped` is true.

    Attributes:
        name: What was looked at.
        status: ``"ok"``, ``"failed"`` or ``"skipped"``.
        detail: What was found, or why it was skipped.
        remediation: What to do about it. A stage that is ok has one where something is amiss that
            does not stop messages.
        fault: The fault's name in ``buttdial_sync.doctor.FAULTS``, or None.
        code: The server's code, or for a broken connection ours, or None.
        outcome: Of what failed: ``"rejected"``, ``"not_sent"``, ``"unknown"``, or ``"sent"`` where
            the server answered in a way that is not understood; else None.
        seconds: How long it took, in seconds; None if it was skipped.
    """

    name: str
    status: StageStatus
    detail: str | None = None
    remediation: str | None = None
    fault: str | None = None
    code: str | None = None
    outcome: Outcome | None = None
    seconds: float | None = None

    @property
    def ok(self) -> bool:
        """It went well."""
        return self.status == "ok"

    @property
    def failed(self) -> bool:
        """It did not; the stages after it were skipped."""
        return self.status == "failed"

    @property
    def skipped(self) -> bool:
        """It was not looked at; ``detail`` says why."""
        return self.status == "skipped"

    def lines(self, *, ascii_only: bool = False) -> Iterator[str]:
        """
        Give the stage as text.

        Args:
            ascii_only: For terminals that cannot show anything else.
        """
        sign = (_PLAIN_SIGNS if ascii_only else _SIGNS)[self.status]
        time = "" if self.seconds is None else f" ({self.seconds * 1000:.0f}ms)"
        dash = "--" if ascii_only else "—"
        yield f"[{sign}] {self.name}{time}" + (f" {dash} {self.detail}" if self.detail else "")
        if self.remediation:
            yield f"    {'->' if ascii_only else '→'} {self.remediation}"


@attrs.frozen(kw_only=True)
class DoctorReport:
    """
    A whole diagnosis. False if a stage failed.

    Attributes:
        stages: The seven stages in their order.
    """

    stages: tuple[DoctorStage, ...]

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """No stage failed. Some may have been skipped."""
        return self.failure is None

    @property
    def failure(self) -> DoctorStage | None:
        """The stage that failed, or None."""
        return next((stage for stage in self.stages if stage.failed), None)

    def summary(self, *, ascii_only: bool = False) -> str:
        """
        Return the report as text, a stage a line, the remedies below.

        Args:
            ascii_only: For terminals that cannot show anything else.
        """
        return "\n".join(
            line for stage in self.stages for line in stage.lines(ascii_only=ascii_only)
        )
