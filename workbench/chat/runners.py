"""Order requests to several models so that each model is loaded once; pure.

What is in memory for a request is its runner: a model with those of its options that belong to a
loaded model.  Requests of one runner follow each other; runners that fit into memory together run
at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from workbench.chat.grouping import grouped_by_model
from workbench.messages import RUNNER_OPTIONS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Runner:
    """A model as it is loaded: its full name, and the runner options it is asked with."""

    model: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def num_ctx(self) -> int | None:
        """Tokens of context it is asked with; `None` leaves it to the server."""
        return dict(self.options).get("num_ctx")


def full_name(model: str) -> str:
    """Return a model's name with its tag: `m` and `m:latest` are the same model."""
    name, at, backend = model.partition("@")
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    return f"{tagged}{at}{backend}"


def short_name(model: str) -> str:
    """Return a model's name without its backend and the tag everybody has."""
    return model.partition("@")[0].removesuffix(":latest")


def runner_of(model: str, options: Mapping[str, Any]) -> Runner:
    """Return what a request needs in memory."""
    kept = sorted((name, value) for name, value in options.items() if name in RUNNER_OPTIONS)
    return Runner(full_name(model), tuple(kept))


def by_runner(
    items: Iterable[T], runner: Callable[[T], Runner], *, loaded: Iterable[str] = ()
) -> list[list[T]]:
    """Group items by their runner: what is loaded first, else in order of appearance.

    Within a group the order stays, and so do groups of one model with other options together: a
    change of options is a load of the same file.

    Args:
        loaded: Names of the models in memory.
    """
    groups = grouped_by_model(
        items, lambda item: runner(item).model, loaded={full_name(name) for name in loaded}
    )
    return [part for group in groups for part in _by_options(group, runner)]


def _by_options(group: Sequence[T], runner: Callable[[T], Runner]) -> list[list[T]]:
    parts: dict[Runner, list[T]] = {}
    for item in group:
        parts.setdefault(runner(item), []).append(item)
    return list(parts.values())


def waves(runners: Sequence[Runner], fit: Callable[[Sequence[Runner]], bool]) -> list[list[Runner]]:
    """Return which runners are in memory together, one wave after the other.

    Each wave takes, in order, whatever still fits beside its first runner.  Two runners of one
    model are never together.

    Args:
        fit: Whether runners fit into memory together, as far as that is known.
    """
    rest, found = list(dict.fromkeys(runners)), []
    while rest:
        wave = [rest.pop(0)]
        for other in tuple(rest):
            if all(other.model != one.model for one in wave) and fit([*wave, other]):
                wave.append(other)
                rest.remove(other)
        found.append(wave)
    return found
