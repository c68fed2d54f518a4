"""Where a secret shows in what an error keeps: all frames, all locals, and what they lead to."""

from __future__ import annotations

import traceback
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from urllib3._collections import RecentlyUsedContainer

_TESTS = str(Path(__file__).parent)
_DEPTH = 6
_DEAD_ENDS = (types.ModuleType, type, types.CodeType, types.FrameType, types.TracebackType)


def leaks_of(error: BaseException, *secrets: str) -> list[str]:
    """
    Return where one of the secrets shows.

    Looked at are all frames but those of the tests, in the whole chain of exceptions: the ``repr``
    of each local, and of everything that it leads to in six steps.
    """
    needles = {form for secret in secrets for form in (secret, quote(secret, safe=""))}
    starts = [start for each in _chain(error) for start in _starts(each)]
    shown = ((path, _shown_by(value)) for path, value in _reachable(starts))
    return [
        f"{path}: {text[:200]}" for path, text in shown if any(needle in text for needle in needles)
    ]


def _starts(error: BaseException) -> Iterator[tuple[str, Any]]:
    for value in (error, error.args, vars(error)):
        yield f"{type(error).__name__} itself", value
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if not code.co_filename.startswith(_TESTS):
            where = f"{code.co_filename}:{line} {code.co_name}"
            for name, value in frame.f_locals.items():
                yield f"{where}: {name}", value


def _shown_by(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - an object that is only half made shows nothing
        return ""


def _reachable(starts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Walk from all of them at once: each object is met once, by the shortest way to it."""
    queue = deque((path, value, 0) for path, value in starts)
    seen: dict[int, Any] = {}
    while queue:
        path, value, depth = queue.popleft()
        if id(value) in seen or isinstance(value, _DEAD_ENDS):
            continue
        seen[id(value)] = value  # kept alive, so that no other object gets its id
        yield path, value
        if depth < _DEPTH:
            with suppress(AttributeError):  # an object that is only half made
                for step, child in _children(value):
                    queue.append((f"{path}{step}", child, depth + 1))


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str | bytes | int | float | None):
        return
    if isinstance(value, Mapping) and not isinstance(value, RecentlyUsedContainer):
        yield from ((".keys", key) for key in list(value))
        yield from ((f"[{key!r}]", item) for key, item in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{number}]", item) for number, item in enumerate(list(value)))
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # it is empty
            yield ".closure", cell.cell_contents
    yield from ((f".{name}", item) for name, item in list(getattr(value, "__dict__", {}).items()))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{kind.__name__}{name}" if name.startswith("__") else name
            if hasattr(value, mangled) and name not in {"__weakref__", "__dict__"}:
                yield f".{name}", getattr(value, mangled)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and all(one is not each for each in seen):
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
            yield one
