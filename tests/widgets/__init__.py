"""The widgets, in a real JupyterLab and a real Chromium."""
