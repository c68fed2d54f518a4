"""From what a check found to a stage of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from buttdial_sync.doctor.remediation import detail_of, fault_of, remediation_of
from buttdial_sync.errors import ButtDialError, ConfigError
from buttdial_sync.models.doctor import DoctorReport, DoctorStage, StageStatus
from buttdial_sync.models.sending import SendResult

STAGES = (
    "Config loaded",
    "Server reachable",
    "SSE handshake",
    "Tool list",
    "send_message accepted",
    "Delivery receipt",
    "Human ack loopback",
)
"""The stages' names, in their order."""


@attrs.frozen(kw_only=True)
class Finding:
    """What a check found that did not fail."""

    status: StageStatus = "ok"
    detail: str | None = None
    remediation: str | None = None
    fault: str | None = None


def skip(reason: str) -> Finding:
    """Return the finding of a check that there is no reason to make."""
    return Finding(status="skipped", detail=reason)


Check = Callable[[], Finding]


def examine(name: str, check: Check, clock: Callable[[], float]) -> DoctorStage:
    """Make a check and return its stage. An exception of this library is a failure."""
    started = clock()
    try:
        found = check()
    except ButtDialError as error:
        return _failed(name, error, clock() - started)
    return DoctorStage(
        name=name,
        seconds=None if found.status == "skipped" else clock() - started,
        **attrs.asdict(found),
    )


def skipped(names: Iterator[str] | tuple[str, ...], reason: str) -> Iterator[DoctorStage]:
    """Give the stages that are skipped for one reason."""
    for name in names:
        yield DoctorStage(name=name, status="skipped", detail=reason)


def because_of(stage: DoctorStage) -> str:
    """Return the reason for skipping what comes after a stage that failed."""
    return f'the stage "{stage.name}" failed'


def failed_configuration(error: ConfigError) -> DoctorReport:
    """
    Return the report for a client that could not even be made.

    Args:
        error: What its constructor raised.
    """
    first = _failed(STAGES[0], error, None)
    return DoctorReport(stages=(first, *skipped(STAGES[1:], because_of(first))))


def error_of(result: SendResult) -> ButtDialError:
    """Return the exception that a result which is not ok stands for, with the result's remedy."""
    error = result.exception or ButtDialError(
        result.error or "the message was not sent",
        code=result.error_code,
        stage=result.stage_failed,
        outcome=result.outcome,
        body=result.raw,
        retry_after=result.retry_after,
    )
    return error.as_kind(type(error), remediation=result.remediation)


def _failed(name: str, error: ButtDialError, seconds: float | None) -> DoctorStage:
    fault = fault_of(error)
    return DoctorStage(
        name=name,
        status="failed",
        detail=detail_of(error),
        remediation=remediation_of(error),
        fault=fault.name if fault else None,
        code=error.code,
        outcome=error.outcome,
        seconds=seconds,
    )
