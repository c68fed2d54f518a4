"""The sources of events: live push and the waiting queue."""
