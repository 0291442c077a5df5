"""The only door from a kernel to the server."""
