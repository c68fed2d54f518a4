"""The tool families of a client, one small module each."""
