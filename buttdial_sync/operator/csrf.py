"""A check against cross-site requests (CSRF), for frameworks without a token for that."""

from __future__ import annotations

from buttdial_sync.inbound.authentication import Headers, by_lower_name

INTENT_HEADER = "X-Requested-With"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OUR_PAGES = frozenset({"same-origin", "none"})


def is_meant(method: str, headers: Headers) -> bool:
    """
    Tell whether a browser cannot have been tricked into a request by another site.

    A form or a link of another site cannot set a header of its own; a script there needs a CORS
    permission for it. So a state-changing request must carry ``X-Requested-With``, with any value.
    Where the browser says which site a request came from, it must be the same one. Nothing is asked
    of requests that change nothing.

    Args:
        method: The HTTP method.
        headers: The request's headers, in any letters' case.
    """
    if method in _SAFE_METHODS:
        return True
    given = by_lower_name(headers)
    came_from = given.get("sec-fetch-site")
    return bool(given.get(INTENT_HEADER.lower())) and (came_from is None or came_from in _OUR_PAGES)
