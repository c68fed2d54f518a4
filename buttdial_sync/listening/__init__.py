"""What brings events: live push and the waiting queue."""
