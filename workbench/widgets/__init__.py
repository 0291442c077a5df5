"""Views of the workbench in a notebook; Python holds the truth, JavaScript draws it."""
