"""The embedded engine: GGUF files, the store that holds them, one process per loaded model."""
