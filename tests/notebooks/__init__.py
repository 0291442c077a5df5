"""The bundled notebooks, run headless and in a browser."""
