from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.reference import (
    BLOCK,
    CLI_PAGE,
    CONFIG_PAGE,
    commands,
    option_title,
    options,
    renewed,
)


@pytest.mark.parametrize("page", [CLI_PAGE, CONFIG_PAGE], ids=lambda page: page.name)
def test_reference_is_current(page: Path) -> None:
    """The generated blocks are those of today; `python -m tests.cli.reference` renews them."""
    assert renewed(page) == page.read_text(encoding="utf-8")


def test_every_command_has_its_heading() -> None:
    """Each command has a heading and a generated block."""
    text = CLI_PAGE.read_text(encoding="utf-8")
    blocks = {match["name"] for match in BLOCK.finditer(text)}
    assert {"workbench", *commands()} == blocks
    assert [] == [name for name in commands() if f"\n## workbench {name}\n" not in text]


def test_every_option_has_its_heading() -> None:
    """Each option of each command has a heading."""
    text = CLI_PAGE.read_text(encoding="utf-8")
    titles = [option_title(o) for command in commands().values() for o in options(command)]
    assert [] == [title for title in titles if f"\n### {title}\n" not in text]
