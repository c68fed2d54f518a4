"""Everything that reaches the host: webhooks, live push, the waiting queue."""
