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
nitpicky = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
