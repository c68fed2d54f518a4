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


def create_private_file(path: str) -> None:
    """
    Create an empty file that only its owner can read; leave one that is there as it is.

    Raises:
        OSError: It cannot be created.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
