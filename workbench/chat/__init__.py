"""Conversations with models: plain Python objects; widgets are views of them."""
