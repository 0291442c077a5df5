"""Checks of the house: its imports, style, budgets, licences, documents and packaging."""
