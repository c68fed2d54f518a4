"""Raising what the layers below raise as an error of a client's own."""

from __future__ import annotations

from collections.abc import Callable

from buttdial_sync.errors.tree import ButtDialError


class raised_as:  # noqa: N801 - it reads like a function, as contextlib.suppress does
    """
    Raise a library's error as the one that a function makes of it, without a chain.

    It is not a generator, because each call of a client may go through one.

    Args:
        translate: Returns the error to raise.
    """

    def __init__(self, translate: Callable[[ButtDialError], ButtDialError]) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise the translated error, if there is one."""
        if isinstance(error, ButtDialError):
            raise self._translate(error) from None
