"""Which models are in memory: the only place that loads and unloads."""
