"""The stages of the report, made from the results of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from buttdial_sync.doctor.remediation import detail_of, fault_of, remediation_of
from buttdial_sync.errors import ButtDialError, ConfigError
from buttdial_sync.errors.exits import DONE, REFUSED, USAGE, exit_code_of_failure
from buttdial_sync.models.doctor import DoctorReport, DoctorStage, StageStatus

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

_WRONG_ADDRESS = frozenset({"tls_port", "http_port"})
_LIMITS = frozenset({"limiter", "rate_limit", "lockout"})


@attrs.frozen(kw_only=True)
class CheckResult:
    """The result of a check that did not fail."""

    status: StageStatus = "ok"
    detail: str | None = None
    remediation: str | None = None
    fault: str | None = None


def skip(reason: str) -> CheckResult:
    """Return the result of a check that is not made."""
    return CheckResult(status="skipped", detail=reason)


Check = Callable[[], CheckResult]


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


def skipped_after(failed: DoctorStage, names: Iterable[str]) -> Iterator[DoctorStage]:
    """Give the stages that are skipped because an earlier one failed."""
    for name in names:
        yield DoctorStage(name=name, status="skipped", detail=f'the stage "{failed.name}" failed')


def failed_configuration(error: ConfigError) -> DoctorReport:
    """
    Return the report for a client that could not even be made.

    Args:
        error: The exception of its constructor.
    """
    first = _failed(STAGES[0], error, None)
    return DoctorReport(stages=(first, *skipped_after(first, STAGES[1:])))


def exit_code_of(report: DoctorReport) -> int:
    """Return the exit code of a command that made this report."""
    failed = report.failure
    if failed is None:
        return DONE
    if failed.name == STAGES[0] or failed.fault in _WRONG_ADDRESS:
        return USAGE
    if failed.fault in _LIMITS:
        return REFUSED
    return exit_code_of_failure(failed.outcome or "unknown", None)


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
