"""The way to the server and back: HTTP, the event stream, the MCP session and its pool."""
