"""The colour of a model: the same in every chart, panel and report.

The colours are those of Okabe and Ito (Color Universal Design, 2008) without black and yellow,
which vanish on a dark and on a light page, and three of Paul Tol's muted scheme (technical note
SRON/EPS/TN/09-002) that stay apart from them for all common kinds of colour blindness.
"""

from __future__ import annotations

import hashlib

COLORS: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#882255",
    "#999933",
    "#AA4499",
)

DASHES: tuple[str, ...] = ("solid", "dash", "dot", "dashdot")
"""Line styles by plotly's and CSS's common names; they tell models of one colour apart."""

MUTED = "#7A7A7A"
"""Text, axes and everything that is no model; readable on white and on black."""

FREE = "rgba(122,122,122,0.18)"
"""Memory nobody holds."""

GOOD, WARN, BAD = "#009E73", "#E69F00", "#D55E00"


def model_color(identity: str) -> str:
    """Return the colour of a model.

    Args:
        identity: Its digest, or its name where the digest is not known.
    """
    return COLORS[_number(identity) % len(COLORS)]


def model_dash(identity: str) -> str:
    """Return the line style of a model, which tells it apart from others of its colour."""
    return DASHES[_number(identity) // len(COLORS) % len(DASHES)]


def _number(identity: str) -> int:
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big")
