"""
Names of a package that are loaded on their first use (PEP 562).

They are listed only in the package's stub, ``__init__.pyi``: type checkers read it, and so
does this. A ``__getattr__`` that they could see would turn every misspelt name into ``Any``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

_IMPORT = re.compile(r"^from (\S+) import \(?\s*(\w+|\*)", re.MULTILINE)


def names_of_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Return the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: The package's name.
        file: Its ``__file__``; the stub is in the same folder.
    """
    module = sys.modules[package]
    # The loader reads it from wherever the package is, an archive too.
    stub: bytes = module.__loader__.get_data(f"{file.rpartition('.')[0]}.pyi")  # type: ignore[union-attr]
    imports = _IMPORT.findall(stub.decode())
    homes = {name: home for home, name in imports if name != "*"}
    stars = [home for home, name in imports if name == "*"]

    def public_names() -> list[str]:
        more = (name for star in stars for name in import_module(star).__all__)
        return sorted({*homes, *more})

    def get(name: str) -> Any:
        if name == "__all__":
            return public_names()
        home = homes.get(name)
        if home is None and not name.startswith("_"):
            home = next((star for star in stars if name in import_module(star).__all__), None)
        if home is None:
            from buttdial_sync._renamed import missing_attribute

            raise missing_attribute(package, name, obj=module)
        value = getattr(import_module(home), name)
        setattr(module, name, value)
        return value

    return get, public_names
