"""Errors of the layers below as a client's own."""

from __future__ import annotations

import pytest

from buttdial_sync.errors import AuthError, ButtDialError, ServerError
from buttdial_sync.errors.translating import raised_as


def own(error: ButtDialError) -> ServerError:
    return error.as_kind(ServerError, f"own: {error.message}")


def test_an_error_of_the_library() -> None:
    """It is raised as the client's own, and does not lead to the one that it was."""
    with pytest.raises(ServerError, match="own: refused") as caught, raised_as(own):
        raise AuthError("refused", status_code=401)
    assert caught.value.status_code == 401
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


def test_an_error_of_somebody_else() -> None:
    """It goes on as it is."""
    with pytest.raises(LookupError, match="theirs"), raised_as(own):
        raise LookupError("theirs")


def test_no_error() -> None:
    """The block ends as it would without."""
    steps = ["before"]
    with raised_as(own):
        steps.append("inside")
    assert steps == ["before", "inside"]
