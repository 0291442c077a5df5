"""The YAML head of a cell: values, places, and errors that point."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from workbench.errors import ConfigError
from workbench.magics.head import read_head, split_head

HEAD = """\
participants:
  - name: Ann
    model: toy-tiny
    temperature: 0.2
  - {name: Bob, model: toy-nano}
human: off
"""


def test_values_by_the_rules_of_yaml_1_2() -> None:
    """`off` is a text, `true` is not, numbers are numbers."""
    head = read_head("%%x", "a: off\nb: true\nc: 0.5\nd: 2026-01-01\n")
    assert {"a": "off", "b": True, "c": 0.5, "d": "2026-01-01"} == head.values


def test_an_error_points_at_its_line() -> None:
    """The message names the line of the cell, and a mark stands below the beginning."""
    error = read_head("%%x", HEAD).error("wrong.", ("participants", 0, "temperature"))
    assert "%%x, line 5 of the cell: wrong.\n\n        temperature: 0.2\n        ^" == str(error)


def test_an_unknown_field_has_the_nearest_name() -> None:
    """A typing error is told with what was meant, at its line."""
    head = read_head("%%x", HEAD)
    with pytest.raises(UsageError) as caught:
        head.check(("name", "model", "temp"), ("participants", 0))
    assert "line 5 of the cell: unknown field 'temperature'. Did you mean 'temp'?" in str(
        caught.value
    )


def test_an_error_of_the_library_is_placed_by_its_key() -> None:
    """The key of an error is looked for within what the library was given."""
    error = read_head("%%x", HEAD).located(ConfigError("no.", key="model"), ("participants", 1))
    assert "line 6 of the cell" in str(error)
    assert str(error).endswith("  - {name: Bob, model: toy-nano}\n                    ^")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1, 2\n", 3, "not YAML"),
        ("a: 1\na: 2\n", 3, "'a' is given twice"),
        ("a:\n  - b: 1\n    b: 2\n", 4, "'b' is given twice"),
        ("- a\n", 2, "list of `field: value` lines"),
        ("", 2, "list of `field: value` lines"),
        ("1: a\n", 2, "a name is expected"),
        ("a: !!python/object:os.system x\n", 2, "not YAML"),
        ("a: &x [1]\nb: *x\n", 3, "aliases are not read"),
        ("a: &x [*x]\n", 2, "aliases are not read"),
    ],
)
def test_what_is_no_head_is_told(text: str, line: int, said: str) -> None:
    """What cannot be read names the line; nothing in it is run."""
    with pytest.raises(UsageError) as caught:
        read_head("%%x", text)
    assert f"line {line} of the cell" in str(caught.value)
    assert said in str(caught.value)


def test_the_head_ends_at_three_dashes() -> None:
    """The first line of dashes parts head and body; later ones and one at the top do not."""
    assert ("a: 1\n", "body\n---\nmore\n") == split_head("a: 1\n--- \nbody\n---\nmore\n")
    assert split_head("no head\n") is None
    assert split_head("---\nbody\n") is None
