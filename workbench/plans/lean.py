"""What processes of our own leave out to begin sooner."""

from __future__ import annotations

import sys


def skip_iri_grammar() -> None:
    """Keep jsonschema from building a grammar of IRIs, which takes 0.6 to 1.7 s of every start.

    jsonschema 4.26 imports `rfc3987_syntax`, where it is installed, to check the format `iri`, and
    nbformat imports jsonschema.  For a process of ours alone: in one of the user's it is theirs to
    say what is not imported.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
