"""Sphinx configuration."""

from buttdial_sync import __version__

project = "buttdial-sync"
author = "The buttdial-sync authors"
copyright = "2026, The buttdial-sync authors"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"buttdial-sync {version}"
# Every reference has to lead somewhere. What stands in signatures may be a type of Python, of
# another library, or of the inside of this one, which has no page.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|collections|datetime|decimal|logging|os|pathlib|sqlite3|typing)\b.*"),
    ("py:class", r"(celery|flask|opentelemetry|prometheus_client|sqlalchemy)\..*"),
    ("py:class", r"buttdial_sync\.contrib\.(celery\.tasks\.StoredMessages|prometheus\.Measured)"),
    ("py:exc", "ImproperlyConfigured"),
    ("py:class", "Clock|Engine"),  # known to type checkers only
    ("py:class", r"buttdial_sync\.(\w+\.)*(errors|handler)\.?(tree)?\.[A-Z]"),
    ("py:class", r"buttdial_sync\.(accounts|calls|stores|testing|tools|transport)\.\w+\.\w+"),
    ("py:class", r"buttdial_sync\.ailoop\.(answers|connection|listening)\.\w+"),
    ("py:class", r"buttdial_sync\.(happy\.tasks\.Tasks|models\.converter\.Identifier)"),
    ("py:class", r"buttdial_sync\.models\.result\.\w+"),
    ("py:class", r"buttdial_sync\.(connection\.Connection|errors\.translating\.\w+)"),
    ("py:class", r"buttdial_sync\.retry\.table\.(Enqueuer|TableRepository)"),
]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
