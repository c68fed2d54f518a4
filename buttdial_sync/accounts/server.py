"""The server that an accounts client talks to, and how it wants to be written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from buttdial_sync.accounts.endpoint import Endpoint, Variant, fill_path
from buttdial_sync.accounts.secrecy import conceal
from buttdial_sync.errors import (
    AccountsError,
    ButtDialError,
    EndpointNotAvailable,
    InvalidRequestError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import on_fork_start_anew
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.runtime import Runtime


@attrs.frozen(kw_only=True)
class Request:
    """A call as it goes out, but for what each attempt makes anew."""

    endpoint: Endpoint
    arguments: Mapping[str, Any]
    body: Mapping[str, Any] | None
    query: Mapping[str, str]
    credential: str | None
    headers: Mapping[str, str]
    secrets: tuple[str, ...]


class Server:
    """
    The server, as all views of a client share it. Safe to share between threads.

    Args:
        runtime: Attempts, events, deadlines.
        base_url: The server.
        wall_clock: Unix seconds, for signed requests.
        make_nonce: Makes 32 hex digits, for signed requests.
    """

    def __init__(
        self,
        runtime: Runtime,
        base_url: str,
        *,
        wall_clock: Callable[[], float],
        make_nonce: Callable[[], str],
    ) -> None:
        self.runtime = runtime
        self.rest = Rest(runtime.http, base_url)
        self.base_url = base_url
        self.wall_clock = wall_clock
        self.make_nonce = make_nonce
        self.was_asked = False
        self._variant_of: dict[str, Variant] = {}
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child there is no connection yet."""
        self.was_asked = False

    def signature(self) -> dict[str, str]:
        """Return the headers of a signed request, made anew for each."""
        return {
            "X-Request-Timestamp": str(int(self.wall_clock())),
            "X-Request-Nonce": self.make_nonce(),
        }

    def attempt(self, request: Request, deadline: Deadline) -> Any:
        """
        Make one attempt.

        The two kinds of server write a few endpoints differently. Nothing but an answer tells which
        one this is: a page instead of JSON for an unknown path, or a 400 that misses the key which
        only the other way of writing has. Both say that nothing was carried out, so the other way
        is tried at once. What was found is remembered.
        """
        self.was_asked = True
        first, *others = self._likely_first(request.endpoint)
        try:
            return self._write(request, first, deadline)
        except ButtDialError as error:
            if not others or not _asks_for_the_other_way(error, request.endpoint, first):
                raise
        return self._write(request, others[0], deadline)

    def _write(self, request: Request, variant: Variant, deadline: Deadline) -> Any:
        endpoint = request.endpoint
        try:
            answer = self.rest.call(
                endpoint.method,
                fill_path(variant.path, request.arguments),
                deadline,
                credential=request.credential,
                query=request.query,
                body=_renamed(request.body, variant.names),
                headers={**request.headers, **(self.signature() if endpoint.is_signed else {})},
                endpoint=variant.path,
            )
        except ButtDialError as error:
            failure = _as_accounts_error(error)
        else:
            self._variant_of[endpoint.path] = variant
            return answer
        if isinstance(failure, EndpointNotAvailable):
            failure.args = (f"this server has no {endpoint.method} {variant.path}",)
        conceal(failure, request.secrets)
        raise failure

    def _likely_first(self, endpoint: Endpoint) -> Iterator[Variant]:
        known = self._variant_of.get(endpoint.path)
        if known is not None:
            yield known
        yield from (variant for variant in endpoint.variants if variant != known)


def _renamed(body: Mapping[str, Any] | None, names: Mapping[str, str]) -> Mapping[str, Any] | None:
    return body and {names.get(key, key): value for key, value in body.items()}


def _asks_for_the_other_way(failure: ButtDialError, endpoint: Endpoint, tried: Variant) -> bool:
    if failure.outcome == "unknown":
        return False
    if isinstance(failure, EndpointNotAvailable):
        return endpoint.open_source_path is not None
    names = endpoint.open_source_names
    others = names.keys() if tried.names else names.values()
    return failure.status_code == 400 and any(name in str(failure) for name in others)


def _as_accounts_error(error: ButtDialError) -> ButtDialError:
    """Return the refusal as one of the accounts endpoints, where its code has no class."""
    if type(error) is not InvalidRequestError or not error.code:
        return error
    return AccountsError(
        str(error),
        code=error.code,
        stage=error.stage,
        outcome=error.outcome,
        remediation=error.remediation,
        status_code=error.status_code,
        body=error.body,
        retryable=error.retryable,
        retry_after=error.retry_after,
        remaining_attempts=error.remaining_attempts,
        locked_until=error.locked_until,
    )
