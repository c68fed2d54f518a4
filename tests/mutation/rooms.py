"""Which tests belong to which module, and which modules are looked at when none is named."""

from __future__ import annotations

from pathlib import Path

# The longest beginning of a module's path wins. The file that bears the module's name is run first,
# then the files here; folders only if these notice nothing. Slow tests of the outside are left out:
# a mutant that only they notice is one that the tests beside the module do not.
_LOOPS = (
    "tests/unit/retry/test_loop_outcomes.py",
    "tests/unit/retry/test_loop_failures.py",
    "tests/unit/retry/test_loop.py",
    "tests/unit/retry/test_limits.py",
)
_TABLES = (
    "tests/unit/stores/test_stores.py",
    "tests/unit/retry/test_conformance.py",
    "tests/unit/retry/test_table.py",
    "tests/unit/inbound/test_inbox.py",
)
_OVER_SQLALCHEMY = (
    "tests/unit/stores/test_stores.py",
    "tests/unit/retry/test_leased.py",
    "tests/integration/retry/test_sqlalchemy_repository.py",
    "tests/integration/retry/test_published_table.py",
)
_LISTENERS = (
    "tests/unit/listening",
    "tests/unit/inbound",
    "tests/integration/inbound/test_listener.py",
    "tests/integration/inbound/test_listening_agents.py",
    "tests/integration/inbound/test_stopping.py",
)
_TESTS: dict[str, tuple[str, ...]] = {
    "buttdial_sync/accounts/": ("tests/unit/accounts",),
    "buttdial_sync/calls/": ("tests/unit/calls", "tests/unit/sending", "tests/unit/tools"),
    "buttdial_sync/calls/call.py": (
        "tests/unit/test_connection.py",
        "tests/unit/test_lifetimes.py",
        "tests/unit/calls",
        "tests/unit/accounts/test_account_secrets.py",
        "tests/unit/tools",
    ),
    "buttdial_sync/calls/endpoint_call.py": (
        "tests/unit/calls",
        "tests/unit/tools/test_organization_tokens.py",
        "tests/unit/sending/test_rest_sending.py",
        "tests/unit/accounts",
        "tests/contract",
    ),
    "buttdial_sync/calls/operation.py": (
        "tests/unit/calls",
        "tests/contract",
        "tests/unit/tools",
        "tests/unit/accounts",
    ),
    "buttdial_sync/calls/rest_sending.py": (
        "tests/unit/sending/test_auto_sending.py",
        "tests/unit/sending",
        "tests/unit/calls",
    ),
    "buttdial_sync/calls/schema.py": (
        "tests/unit/calls/test_schema_decisions.py",
        "tests/unit/calls",
        "tests/unit/sending",
        "tests/unit/tools",
    ),
    "buttdial_sync/connection.py": (
        "tests/unit/test_connection.py",
        "tests/unit/transport/test_fork_registry.py",
        "tests/unit/calls",
        "tests/unit/sending",
    ),
    "buttdial_sync/doctor/": ("tests/unit/doctor",),
    "buttdial_sync/errors/": ("tests/unit/errors",),
    "buttdial_sync/errors/accounts.py": ("tests/unit/errors", "tests/unit/accounts"),
    "buttdial_sync/errors/exits.py": ("tests/unit/cli/test_cli_exits.py", "tests/unit/errors"),
    "buttdial_sync/errors/texts.py": ("tests/unit/errors/test_error_texts.py", "tests/unit/errors"),
    "buttdial_sync/errors/tree.py": (
        "tests/unit/errors/test_error_tree.py",
        "tests/unit/errors/test_error_notes.py",
        "tests/unit/errors",
    ),
    "buttdial_sync/happy/": ("tests/unit/happy", "tests/integration/happy"),
    "buttdial_sync/happy/turns.py": ("tests/unit/happy/test_turns.py",),
    "buttdial_sync/inbound/": ("tests/unit/inbound",),
    "buttdial_sync/inbound/dispatch.py": (
        "tests/unit/inbound/test_dispatch.py",
        "tests/unit/inbound/test_handler.py",
        "tests/unit/inbound/test_inbox.py",
        "tests/unit/inbound",
    ),
    "buttdial_sync/inbound/handler.py": (
        "tests/unit/inbound/test_handler.py",
        "tests/unit/inbound/test_web.py",
        "tests/unit/inbound/test_inbox.py",
        "tests/unit/test_migrating.py",
        "tests/unit/inbound",
    ),
    "buttdial_sync/inbound/inbox.py": (
        "tests/unit/inbound/test_inbox.py",
        "tests/unit/listening/test_inbox_worker.py",
        "tests/unit/listening/test_listening_with_inbox.py",
        "tests/unit/inbound",
    ),
    "buttdial_sync/inbound/serialized.py": (
        "tests/unit/inbound",
        "tests/integration/contrib/test_celery_tasks.py",
    ),
    "buttdial_sync/inbound/sqlalchemy_inbox.py": _OVER_SQLALCHEMY,
    "buttdial_sync/listening/": _LISTENERS,
    "buttdial_sync/listening/inbox_worker.py": (
        "tests/unit/listening/test_listening_with_inbox.py",
        *_LISTENERS,
    ),
    "buttdial_sync/listening/listener.py": (
        *_LISTENERS,
        "tests/integration/inbound/test_listener_forks.py",
    ),
    "buttdial_sync/listening/pauses.py": ("tests/unit/listening/test_runner.py", *_LISTENERS),
    "buttdial_sync/listening/runner.py": (
        "tests/unit/listening/test_runner.py",
        "tests/unit/listening/test_listening_with_inbox.py",
        *_LISTENERS,
        "tests/integration/inbound/test_polling.py",
    ),
    "buttdial_sync/models/": ("tests/unit/models", "tests/unit/tools"),
    "buttdial_sync/operator/": ("tests/unit/operator",),
    "buttdial_sync/procedura/": ("tests/unit/procedura", "tests/integration/procedura"),
    "buttdial_sync/retry/": ("tests/unit/retry",),
    "buttdial_sync/retry/recorder.py": (*_LOOPS, "tests/unit/retry"),
    "buttdial_sync/retry/loop.py": (
        "tests/unit/retry/test_loop_thread.py",
        *_LOOPS,
        "tests/unit/retry",
    ),
    "buttdial_sync/retry/pauses.py": (*_TABLES, "tests/unit/retry"),
    "buttdial_sync/retry/receipts.py": (*_TABLES, "tests/unit/retry"),
    "buttdial_sync/retry/rows.py": (*_TABLES, "tests/unit/retry"),
    "buttdial_sync/retry/sqlalchemy.py": _OVER_SQLALCHEMY,
    "buttdial_sync/retry/table.py": (*_TABLES, "tests/unit/retry"),
    "buttdial_sync/retry/verdicts.py": ("tests/unit/retry/test_recorder.py", "tests/unit/retry"),
    "buttdial_sync/retry/worker.py": (*_LOOPS, "tests/unit/retry"),
    "buttdial_sync/settings.py": ("tests/unit/test_settings.py",),
    "buttdial_sync/stores/": (*_TABLES, "tests/unit/stores", "tests/unit/retry"),
    # Not those of Django, which cannot be imported without its settings.
    "buttdial_sync/stores/sql.py": (*_TABLES, *_OVER_SQLALCHEMY, "tests/unit/stores"),
    "buttdial_sync/stores/sqlalchemy.py": _OVER_SQLALCHEMY,
    # One of its two statements is PostgreSQL's.
    "buttdial_sync/stores/turns.py": (*_TABLES, *_OVER_SQLALCHEMY, "tests/unit/stores"),
    "buttdial_sync/stores/times.py": ("tests/unit/stores", "tests/unit/retry"),
    "buttdial_sync/tools/": ("tests/unit/tools", "tests/unit/sending"),
    "buttdial_sync/transport/": ("tests/unit/transport",),
    "buttdial_sync/transport/client_connection.py": (
        "tests/unit/test_connection.py",
        "tests/unit/transport/test_rest_connection.py",
        "tests/unit/transport/test_fork_registry.py",
        "tests/unit/transport",
    ),
    "buttdial_sync/transport/fork.py": (
        "tests/unit/transport/test_fork_registry.py",
        "tests/unit/transport",
        "tests/integration/client/test_fork.py",
    ),
    "buttdial_sync/transport/http.py": (
        "tests/unit/transport/test_http.py",
        "tests/unit/transport/test_http_exchange.py",
        "tests/unit/transport",
    ),
    "buttdial_sync/transport/opening.py": ("tests/unit/transport", "tests/unit/sending"),
    "buttdial_sync/transport/push_router.py": (
        "tests/unit/listening/test_push_router.py",
        "tests/unit/tools/test_inbox.py",
        "tests/unit/listening",
    ),
    "buttdial_sync/transport/rest.py": (
        "tests/unit/transport/test_http_exchange.py",
        "tests/unit/transport",
        "tests/unit/accounts",
    ),
    "buttdial_sync/transport/retrying.py": ("tests/unit/transport", "tests/unit/calls"),
    "buttdial_sync/transport/session.py": (
        "tests/unit/transport/test_session.py",
        "tests/unit/test_lifetimes.py",
        "tests/unit/transport",
    ),
    "buttdial_sync/transport/tool_list.py": (
        "tests/unit/transport",
        "tests/unit/tools",
        "tests/unit/sending",
    ),
}
DESELECTED = (
    "--deselect=tests/unit/inbound/test_strangers.py",
    "--deselect=tests/unit/errors/test_error_answers.py::test_garbage_is_an_error_of_ours",
)
LEFT_OUT = {
    "buttdial_sync/retry/repository.py": "protocols: only type checkers read their defaults",
}
_ROOMS = ("calls", "errors", "inbound", "listening", "retry", "stores", "transport")


def core(root: Path) -> list[str]:
    """Return what is looked at when no module is named: all of the core but for ``LEFT_OUT``."""
    package = root / "buttdial_sync"
    files = [package / "connection.py"]
    for room in _ROOMS:
        files += (package / room).rglob("*.py")
    modules = [file.relative_to(root).as_posix() for file in sorted(files)]
    return [module for module in modules if module not in LEFT_OUT]


def tests_of(module: str, root: Path) -> tuple[list[str], list[str]]:
    """
    Return pytest's arguments for a module: the tests nearest to it, and the rest of its room.

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
    files = [path for path in paths if path.endswith(".py")]
    rest = [path for path in paths if path not in files]
    own = [f"{path}/{name}" for path in rest if (root / path / name).exists()]
    own += [path for path in files if path not in own]
    return (own, rest) if own else (rest, [])
