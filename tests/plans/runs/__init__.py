"""Carrying out runs of plans: in this process, and in processes of their own."""
