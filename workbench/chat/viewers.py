"""What shows a session, a dialogue or a comparison that a notebook displays bare.

The layer that knows of widgets names the viewers; here nobody needs to know it, and what is never
displayed is never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["session", "dialogue", "comparison"]
Viewer = Callable[[Any], Any]
"""Returns the panel of a thing: what has a `_repr_mimebundle_`."""

_viewers: dict[Kind, Viewer] = {}


def show_with(kind: Kind, viewer: Viewer) -> None:
    """Let things of a kind be shown by what `viewer` returns."""
    _viewers[kind] = viewer


def bundle_of(kind: Kind, thing: Any, text: Callable[[Any], str], **kwargs: Any) -> Any:
    """Return the mime bundle of a thing: its panel's, or without a viewer its text."""
    viewer = _viewers.get(kind)
    if viewer is None:
        return {"text/plain": text(thing)}
    return viewer(thing)._repr_mimebundle_(**kwargs)
