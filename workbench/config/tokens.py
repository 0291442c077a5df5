"""The `[[token]]` entries of the toml file: who else may call, told apart by name.

The file holds the hash of a token, never the token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from workbench.config.entries import Entry, entries_of, refuse_twins
from workbench.config.toml_file import TomlFile


@dataclass(frozen=True, slots=True)
class NamedToken:
    """One `[[token]]`; `sha256` is the hash of the token, 64 hex digits."""

    name: str
    sha256: str


def read_tokens(toml: TomlFile) -> tuple[NamedToken, ...]:
    """Return the named tokens of the file.

    Raises:
        ConfigError: When an entry cannot be used; names the file, line and key.
    """
    entries = entries_of(toml, "token")
    tokens = tuple(_Token(toml, entry, number).read() for number, entry in enumerate(entries))
    refuse_twins(toml, "token", (token.name for token in tokens))
    return tokens


class _Token(Entry):
    table = "token"
    keys = ("name", "sha256")

    def read(self) -> NamedToken:
        """Return the token."""
        name, digest = self.needed_text("name"), self.needed_text("sha256")
        if not is_token_name(name):
            raise self.error("a token's name is letters, digits, '.', '_' and '-'.", "name")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise self.error(
                "sha256 is the hash of a token, 64 hex digits, not the token.",
                "sha256",
                hint=f"Make both with: workbench token {name}",
            )
        return NamedToken(name, digest)


def is_token_name(name: str) -> bool:
    """Whether a token may have this name."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is not None


def new_token() -> tuple[str, str]:
    """Return a new token and its hash; 256 random bits need no slow hash."""
    token = secrets.token_urlsafe(32)
    return token, token_hash(token)


def token_hash(token: str) -> str:
    """Return the hash that the file holds for a token."""
    return hashlib.sha256(token.encode()).hexdigest()
