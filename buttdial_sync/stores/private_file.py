"""Files with secrets in them."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_private_file(path: Path, text: str) -> None:
    """
    Write a file that only its owner can read; a crash leaves the old one or the new one, whole.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # with 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:  # whatever it was, half a file with secrets does not stay
        with suppress(OSError):
            os.unlink(name)
        raise
