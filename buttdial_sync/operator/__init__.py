"""
The operator API, without a framework.

Endpoints for people who look after a host: :class:`~buttdial_sync.OperatorApi` answers them,
and a framework passes on method, path and query. ``contrib.django`` and ``contrib.flask`` do.
"""
