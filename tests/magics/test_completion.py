"""What Tab offers in the cells of the magics."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from workbench.magics.completion import completions
from workbench.testing import ScriptedOllama

MODELS = ["toy-tiny", "toy-nano", "big"]


def offered(cell: str) -> list[str] | None:
    """Return what is offered at the end of a cell."""
    found = completions(cell.split("\n"), lambda: MODELS)
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%%chat toy", ["toy-tiny", "toy-nano"]),
        ("%%chat ", MODELS),
        ("%%compare big toy-n", ["toy-nano"]),
        ("%%chat big --tem", ["--temperature"]),
        ("%%chat big --se", ["--session", "--seed"]),
        ("%%chat big --think me", ["medium"]),
        ("%%dialogue --b", ["--background"]),
        ("%%metrics --o", ["--output"]),
        ("%%dialogue\npart", ["participants: "]),
        ("%%dialogue\norder: de", ["debate"]),
        ("%%dialogue\nhuman: ", ["off", "interject", "approve"]),
        ("%%dialogue\nparticipants:\n  Ann: toy-t", ["toy-tiny"]),
        ("%%dialogue\nparticipants:\n  - name: Ann\n    model: toy-t", ["toy-tiny"]),
        ("%%dialogue\nparticipants:\n  - {name: Ann, model: toy-t", ["toy-tiny"]),
        ("%%dialogue\nparticipants:\n  - name: Ann\n    temp", ["temperature: "]),
        ("%%dialogue\nparticipants:\n  - {name: Ann, sys", ["system: "]),
        ("%%dialogue\njudge: b", ["big"]),
        ("%%dialogue\nmemory: {summary: b", ["big"]),
        ("%%compare\nmodels: [big, toy-n", ["toy-nano"]),
        ("%%compare\nmodels:\n  - toy-n", ["toy-nano"]),
        ("%%compare\nmodels:\n  - {model: toy-n", ["toy-nano"]),
        ("%%compare --blind\nmod", ["models: "]),
    ],
)
def test_what_is_offered(cell: str, expected: list[str]) -> None:
    """Models, options, fields and choices are offered where they may stand."""
    assert expected == offered(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "import os",
        "%%chat",
        "%%chat big\nWhat is toy",
        "%%compare big toy-tiny\nmod",
        "%%dialogue\nturns: 4\n---\npart",
        "%%chat big --temperature t",
        "%%metrics\nSELECT i",
        "%%time\ntoy",
    ],
)
def test_where_nothing_of_ours_is_offered(cell: str) -> None:
    """Prompts, openings, queries and other cells are left to others."""
    assert not offered(cell)


def test_a_kernel_asks_the_shell(shell: InteractiveShell, ollama: ScriptedOllama) -> None:
    """The completer of IPython offers options, fields and keeps quiet where no model is known."""

    def asked(cell: str) -> list[Any]:
        with provisionalcompleter():
            return [one.text for one in shell.Completer.completions(cell, len(cell))]

    assert ["--temperature"] == asked("%%chat tiny --tempe")
    assert ["participants: "] == asked("%%dialogue\npartic")
    # A plain Ollama has no list of models of ours: nothing is offered, and nothing breaks.
    assert "tiny" not in asked("%%chat ti")


def test_loading_twice_offers_once(shell: InteractiveShell) -> None:
    """Loading the extension again does not add a second completer."""
    shell.run_line_magic("reload_ext", "workbench")
    ours = [m for m in shell.Completer.custom_matchers if "workbench" in str(vars(m))]
    assert 1 == len(ours)
