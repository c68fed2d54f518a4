"""
Whether the tests can fail: mutants of the package, and which of them the tests notice.

Run by hand and nightly, never by the test command::

    python -m tests.mutation                                              # every module of the core
    python -m tests.mutation buttdial_sync/transport/session.py --sample 50 --seed 1
    python -m tests.mutation --review                                     # the known ones

Why not a tool from the registry (looked at in November 2026): mutmut 3 leaves decorated functions and the
constants of a module alone, which here are the properties, the context managers and every limit and pause, and it
replaces functions by trampolines in forked children, while the tests look at threads and forks. cosmic-ray removes
no statement, keeps a session in a database and brings sqlalchemy, aiohttp and gitpython. Neither takes a sample by a
seed.
"""
