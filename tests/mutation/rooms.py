"""Which tests belong to which module, and which modules are looked at when none is named."""

from __future__ import annotations

from pathlib import Path

# The longest beginning of a module's path wins. Slow tests of the outside are left out: a mutant
# that only they notice is one that the tests beside the module do not.
_TESTS: dict[str, tuple[str, ...]] = {
    "buttdial_sync/accounts/": ("tests/unit/accounts",),
    "buttdial_sync/calls/": ("tests/unit/calls", "tests/unit/sending", "tests/unit/tools"),
    "buttdial_sync/calls/call.py": (
        "tests/unit/calls",
        "tests/unit/test_connection.py",
        "tests/unit/tools",
    ),
    "buttdial_sync/calls/endpoint_call.py": (
        "tests/unit/calls",
        "tests/unit/accounts",
        "tests/contract",
    ),
    "buttdial_sync/calls/operation.py": (
        "tests/unit/calls",
        "tests/contract",
        "tests/unit/tools",
        "tests/unit/accounts",
    ),
    "buttdial_sync/connection.py": (
        "tests/unit/test_connection.py",
        "tests/unit/calls",
        "tests/unit/transport/test_fork_registry.py",
        "tests/unit/sending",
    ),
    "buttdial_sync/doctor/": ("tests/unit/doctor",),
    "buttdial_sync/errors/": ("tests/unit/errors",),
    "buttdial_sync/happy/": ("tests/unit/happy", "tests/integration/happy"),
    "buttdial_sync/happy/turns.py": ("tests/unit/happy/test_turns.py",),
    "buttdial_sync/inbound/": ("tests/unit/inbound",),
    "buttdial_sync/listening/": ("tests/unit/listening", "tests/unit/inbound"),
    "buttdial_sync/models/": ("tests/unit/models", "tests/unit/tools"),
    "buttdial_sync/operator/": ("tests/unit/operator",),
    "buttdial_sync/procedura/": ("tests/unit/procedura", "tests/integration/procedura"),
    "buttdial_sync/retry/": ("tests/unit/retry",),
    "buttdial_sync/settings.py": ("tests/unit/test_settings.py",),
    "buttdial_sync/stores/": ("tests/unit/stores", "tests/unit/retry"),
    "buttdial_sync/tools/": ("tests/unit/tools", "tests/unit/sending"),
    "buttdial_sync/transport/": ("tests/unit/transport",),
    "buttdial_sync/transport/fork.py": (
        "tests/unit/transport",
        "tests/integration/client/test_fork.py",
    ),
    "buttdial_sync/transport/opening.py": ("tests/unit/transport", "tests/unit/sending"),
    "buttdial_sync/transport/push_router.py": (
        "tests/unit/listening/test_push_router.py",
        "tests/unit/tools/test_inbox.py",
        "tests/unit/listening",
    ),
    "buttdial_sync/transport/rest.py": ("tests/unit/transport", "tests/unit/accounts"),
    "buttdial_sync/transport/retrying.py": ("tests/unit/transport", "tests/unit/calls"),
    "buttdial_sync/transport/tool_list.py": (
        "tests/unit/transport",
        "tests/unit/tools",
        "tests/unit/sending",
    ),
}
_LEFT_OUT = (
    "tests/unit/inbound/test_strangers.py",
    "tests/unit/errors/test_error_answers.py::test_garbage_is_an_error_of_ours",
)
CORE = (
    "buttdial_sync/calls/arguments.py",
    "buttdial_sync/calls/call.py",
    "buttdial_sync/calls/endpoint_call.py",
    "buttdial_sync/calls/operation.py",
    "buttdial_sync/calls/schema.py",
    "buttdial_sync/calls/sending.py",
    "buttdial_sync/calls/tool_call.py",
    "buttdial_sync/connection.py",
    "buttdial_sync/errors/answers.py",
    "buttdial_sync/errors/moments.py",
    "buttdial_sync/errors/scrubbing.py",
    "buttdial_sync/inbound/authentication.py",
    "buttdial_sync/inbound/decoding.py",
    "buttdial_sync/inbound/deliveries.py",
    "buttdial_sync/inbound/dispatch.py",
    "buttdial_sync/inbound/handler.py",
    "buttdial_sync/inbound/native.py",
    "buttdial_sync/inbound/reading.py",
    "buttdial_sync/inbound/signatures.py",
    "buttdial_sync/inbound/whatsapp.py",
    "buttdial_sync/listening/inbound_queue.py",
    "buttdial_sync/listening/listener.py",
    "buttdial_sync/listening/runner.py",
    "buttdial_sync/retry/token_limits.py",
    "buttdial_sync/retry/loop.py",
    "buttdial_sync/retry/memory.py",
    "buttdial_sync/retry/outbox.py",
    "buttdial_sync/retry/recorder.py",
    "buttdial_sync/retry/report.py",
    "buttdial_sync/retry/rows.py",
    "buttdial_sync/retry/sqlite.py",
    "buttdial_sync/retry/table.py",
    "buttdial_sync/retry/threads.py",
    "buttdial_sync/retry/worker.py",
    "buttdial_sync/transport/adapter.py",
    "buttdial_sync/transport/connections.py",
    "buttdial_sync/transport/deadline.py",
    "buttdial_sync/transport/descriptors.py",
    "buttdial_sync/transport/failures.py",
    "buttdial_sync/transport/fork.py",
    "buttdial_sync/transport/http.py",
    "buttdial_sync/transport/opening.py",
    "buttdial_sync/transport/pending.py",
    "buttdial_sync/transport/pool.py",
    "buttdial_sync/transport/push_router.py",
    "buttdial_sync/transport/replies.py",
    "buttdial_sync/transport/rest.py",
    "buttdial_sync/transport/retrying.py",
    "buttdial_sync/transport/session.py",
    "buttdial_sync/transport/sse.py",
    "buttdial_sync/transport/token_location.py",
    "buttdial_sync/transport/tool_list.py",
)


def tests_of(module: str, root: Path) -> list[str]:
    """
    Return pytest's arguments for a module: the file that bears its name first, then its room.

    Raises:
        LookupError: No tests belong to it.
    """
    rooms = [room for room in _TESTS if module.startswith(room)]
    if not rooms:
        raise LookupError(f"no tests belong to {module}: add its room to {__file__}")
    paths = [path for path in _TESTS[max(rooms, key=len)] if (root / path).exists()]
    if not paths:
        raise LookupError(f"the tests of {module} are gone: correct its room in {__file__}")
    name = f"test_{Path(module).stem}.py"
    own = [f"{path}/{name}" for path in paths if (root / path / name).exists()]
    left_out = [f"--deselect={path}" for path in _LEFT_OUT]
    return [*own, *paths, *left_out]
