"""Put work in an order that loads each model once: pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

T = TypeVar("T")


def grouped_by_model(
    items: Iterable[T], model_of: Callable[[T], str], *, loaded: Collection[str] = ()
) -> list[list[T]]:
    """Return items in groups of one model each; within a group they keep their order.

    What is in memory comes first, so that it need not be loaded again; the other groups follow
    in the order in which their models were first named.

    Args:
        items: Anything that a model has to do.
        model_of: Returns the name of the model of an item.
        loaded: Models that are in memory, under the names that `model_of` returns.
    """
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(model_of(item), []).append(item)
    here = [group for model, group in groups.items() if model in loaded]
    return here + [group for model, group in groups.items() if model not in loaded]
