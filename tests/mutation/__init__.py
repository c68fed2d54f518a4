"""
Whether the tests can fail: mutants of the package, and which of them the tests notice.

Run by hand and nightly, never by the test command::

    python -m tests.mutation                                              # every module of the core
    python -m tests.mutation buttdial_sync/transport/session.py --sample 50 --seed 1
    python -m tests.mutation buttdial_sync/transport/session.py --near    # only the nearest tests
    python -m tests.mutation --review                                     # the known ones

``CONTRIBUTING.rst`` says what it costs.

Why not a tool from the registry: mutmut 3 leaves a module's constants and most decorated functions
alone, which here are every limit, the properties and the context managers. cosmic-ray removes no
statement, and brings sqlalchemy, aiohttp, gitpython and a database of its own.
"""
