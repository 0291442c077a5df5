"""The page about testing names everything there is to script."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from workbench.testing import (
    FakeGpu,
    FakeModel,
    ForeignClient,
    MemoryEvent,
    RecordedRequest,
    Reply,
    ScriptedGpu,
    ScriptedOllama,
    ScriptedOpenAI,
)
from workbench.testing.controls import MemoryControls
from workbench.testing.memory import EventKind
from workbench.testing.rules import RunnerOptions

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "testing.md"


@pytest.fixture(scope="module")
def named() -> set[str]:
    """Return the first word of every piece of code in the prose of the page."""
    return set(re.findall(r"`([a-z_0-9]+)[^`]*`", PAGE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Return every word of the page."""
    return set(re.findall(r"[a-z_0-9]+", PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("described", [Reply, FakeModel, FakeGpu, RunnerOptions])
def test_every_field_is_described(described: type[Any], named: set[str]) -> None:
    """Every field of a script, a model, a device and a runner stands on the page."""
    assert set() == {item.name for item in dataclasses.fields(described)} - named


def test_every_attribute_of_a_request_is_described(named: set[str]) -> None:
    """Every public attribute of a recorded request stands on the page."""
    public = {name for name in vars(RecordedRequest) if not name.startswith("_")}
    described = re.findall(r"^ {8}([a-z_]+): ", RecordedRequest.__doc__ or "", re.MULTILINE)
    assert set() == {*public, *described} - {"stall"} - named


@pytest.mark.parametrize("server_type", [ScriptedOllama, ScriptedOpenAI, ScriptedGpu])
def test_every_operation_is_described(
    server_type: type[ScriptedOllama | ScriptedOpenAI | ScriptedGpu], named: set[str]
) -> None:
    """Every operation that a script can be for stands on the page."""
    assert set() == server_type().operations - named


def test_every_option_of_the_scripted_ollama_is_described(words: set[str]) -> None:
    """Every option that a scripted Ollama is made with stands on the page."""
    options = set(inspect.signature(ScriptedOllama).parameters)
    assert set() == options - {"host", "port"} - words


@pytest.mark.parametrize("described", [MemoryControls, ForeignClient, ScriptedGpu, MemoryEvent])
def test_everything_public_is_described(described: type[Any], words: set[str]) -> None:
    """Every public attribute of the scheduler's controls, and of the other doubles, is there."""
    public = {name for name in vars(described) if not name.startswith("_")}
    fields = getattr(described, "__dataclass_fields__", {})
    assert set() == {*public, *fields} - words


def test_every_event_is_described(named: set[str]) -> None:
    """Every kind of event in a scheduler's history stands on the page."""
    assert set() == set(get_args(EventKind)) - named
