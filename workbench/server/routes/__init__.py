"""The HTTP and WebSocket surface: one module per dialect."""
