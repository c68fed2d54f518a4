"""What is missing where an extra is not installed."""

from __future__ import annotations

from types import TracebackType


class Extra:
    """
    A context for the imports that an extra is needed for.

    Args:
        name: The extra.
        *packages: What it installs, by the names that are imported.
    """

    def __init__(self, name: str, *packages: str) -> None:
        self._name = name
        self._packages = packages

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if not isinstance(error, ModuleNotFoundError) or error.name is None:
            return
        package = error.name.partition(".")[0]
        if package in self._packages:
            text = f"this needs the package {package}: pip install 'buttdial-sync[{self._name}]'"
            raise ModuleNotFoundError(text, name=error.name) from error
