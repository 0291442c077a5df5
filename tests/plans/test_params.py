from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.plans.params import Wrong, json_problems, must_be_given, resolve_params, typed_value
from workbench.plans.spec import Param, Plan


def plan(*params: Param, path: str | None = None) -> Plan:
    """Return a plan with parameters only."""
    return Plan("p", (), params=params, path=path)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("int", " 7 ", 7),
        ("int", "-0123", -123),
        ("float", "1e-3", 0.001),
        ("float", "2", 2.0),
        ("bool", "Yes", True),
        ("bool", "off", False),
        ("str", "007", "007"),
        ("str", "", ""),
        ("str", "[1]", "[1]"),
        ("model", " toy-tiny ", "toy-tiny"),
        ("list[int]", "1, 2,3", [1, 2, 3]),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[float]", "1,.5", [1.0, 0.5]),
        ("list[str]", '["a, b", "c"]', ["a, b", "c"]),
        ("list[model]", "a,b", ["a", "b"]),
        ("list[str]", "", []),
        ("secret", "API_KEY", {"env": "API_KEY"}),
    ],
)
def test_texts_are_read_by_type(kind: Any, text: str, expected: object) -> None:
    """A text of a command line becomes a value of the parameter's type, not what it looks like."""
    value = typed_value(Param("x", kind), text, texts=True)
    assert expected == value
    assert type(expected) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1_000"),
        ("int", "1.5"),
        ("int", "0x10"),
        ("float", "nan"),
        ("float", "1e999"),
        ("bool", "maybe"),
        ("model", "  "),
        ("list[int]", "1,x"),
        ("list[int]", "[1, true]"),
        ("list[int]", "[1"),
        ("secret", "sk-12345"),
        ("choice", "c"),
    ],
)
def test_other_texts_are_refused(kind: Any, text: str) -> None:
    """A text that is no such value is refused, not guessed at; a secret is not shown."""
    with pytest.raises(Wrong) as caught:
        typed_value(Param("x", kind, choices=("a", "b")), text, texts=True)
    assert kind != "secret" or "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 7.0, 7),
        ("float", 7, 7.0),
        ("secret", {"env": "KEY"}, {"env": "KEY"}),
        ("choice", "b", "b"),
        ("list[str]", [], []),
    ],
)
def test_json_values_are_taken(kind: Any, value: object, expected: object) -> None:
    """A number is taken as the type has it."""
    found = typed_value(Param("x", kind, choices=("a", "b")), value)
    assert expected == found
    assert type(expected) is type(found)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", True),
        ("int", "7"),
        ("int", 7.5),
        ("float", False),
        ("bool", 1),
        ("str", 7),
        ("str", b"x"),
        ("list[int]", (1, 2)),
        ("list[int]", {1, 2}),
        ("list[str]", ["a", 1]),
        ("list[str]", "a"),
        ("float", float("nan")),
        ("int", 10**60),
        ("str", datetime.date(2026, 1, 2)),
        ("str", "\ud800"),
        ("secret", {"env": "KEY", "value": "x"}),
    ],
)
def test_other_json_values_are_refused(kind: Any, value: object) -> None:
    """What is of another type, or papermill would mangle, is refused."""
    with pytest.raises(Wrong):
        typed_value(Param("x", kind), value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [(1, 2)]}, "tuple"),
        ({"a": b"x"}, "bytes"),
        ([datetime.datetime(2026, 1, 2)], "date or time"),
        ([{1}], "set"),
        ({1: "x"}, "key 1"),
        ([float("inf")], "no number of JSON"),
        ([Path("x")], "no JSON value"),
    ],
)
def test_what_json_does_not_hold_is_named(value: object, said: str) -> None:
    """Each value that JSON does not hold is found with its place and a reason."""
    [(place, message, _hint)] = json_problems(value)
    assert len(place) >= 1
    assert said in message


def test_values_come_in_the_plans_order() -> None:
    """Every parameter has a value: the given one, else the default."""
    found = resolve_params(
        plan(
            Param("a", "int", 1),
            Param("b", "str", required=False),
            Param("key", "secret", env="KEY"),
        ),
        {"a": "5"},
        texts=True,
    )
    assert {"a": 5, "b": None, "key": {"env": "KEY"}} == found
    assert ["a", "b", "key"] == list(found)


def test_unknown_parameter_is_an_error_with_the_nearest() -> None:
    """A parameter that the plan has not is refused, and the nearest name told."""
    with pytest.raises(ConfigError) as caught:
        resolve_params(plan(Param("models", "list[model]", ["a"])), {"model": "x"}, texts=True)
    assert "model" == caught.value.key
    assert "Did you mean 'models'?" == caught.value.hint


def test_missing_value_is_an_error_with_its_line() -> None:
    """A parameter without default must be given; the error has its name, file and line."""
    needed = Param("question", "str", help="what to ask", line=4)
    assert must_be_given(needed)
    with pytest.raises(ConfigError) as caught:
        resolve_params(plan(needed, path="x.yaml"), {}, texts=True)
    error = caught.value
    assert ("question", "x.yaml", 4) == (error.key, error.file, error.line)
    assert "what to ask" in str(error)


def test_files_are_found_from_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default is relative to the plan, a given path to the current folder or the plan's."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("plans/a.csv", "plans/b.csv", "here/a.csv"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    data = plan(Param("data", "file", "a.csv"), path=str(tmp_path / "plans" / "p.yaml"))
    assert str(tmp_path / "plans/a.csv") == resolve_params(data, {}, texts=True)["data"]
    for given, expected in [("a.csv", "here/a.csv"), ("b.csv", "plans/b.csv")]:
        found = resolve_params(data, {"data": given}, texts=True)
        assert str(tmp_path / expected) == found["data"]
    with pytest.raises(ConfigError, match="names no file"):
        resolve_params(data, {"data": "c.csv"}, texts=True)
