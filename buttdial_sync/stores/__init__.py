"""
Rows of work on disk, for messages out and messages in: leases, fences, attempts, dead letters.

A :class:`~buttdial_sync.stores.store.Store` keeps the rows of one table: in memory, in a SQLite
file, by way of SQLAlchemy, or of Django (:mod:`buttdial_sync.contrib.django.store`). A
:class:`~buttdial_sync.stores.table.WorkTable` has the rules that all such tables share.
"""
