"""Three ways to check a run: replay its tapes, ask its models again, run it with other seeds."""
