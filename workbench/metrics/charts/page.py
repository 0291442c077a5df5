"""The plotly.js of the plotly wheel, for pages that must open without a network."""

from __future__ import annotations

from importlib.resources import files


def plotly_js() -> bytes:
    """Return plotly.js, 4.8 MB; a page needs it once."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
