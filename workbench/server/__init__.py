"""The server: the one owner of what a machine has only one of, the memory of its GPUs."""
