"""A client for Happy, which runs coding agents on the machines of a user."""
