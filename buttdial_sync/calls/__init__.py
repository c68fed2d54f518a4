"""Carrying out an operation: what it is on the wire, its attempts, and its answer."""
