"""
Every exception that this library raises on purpose, and how answers become exceptions.

Catch :class:`ButtDialError` to handle all of them; the tree is drawn in
:mod:`buttdial_sync.errors.tree`.
"""

from buttdial_sync.errors import accounts, answers, tree
from buttdial_sync.errors.accounts import *  # noqa: F403
from buttdial_sync.errors.answers import *  # noqa: F403
from buttdial_sync.errors.tree import *  # noqa: F403

__all__ = accounts.__all__ + answers.__all__ + tree.__all__
