"""Where models run: one module per kind; the only place in the server that makes HTTP requests."""
