"""Carrying out an operation: its form on the wire, its attempts, and its answer."""
