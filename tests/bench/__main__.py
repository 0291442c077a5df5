"""`python -m tests.bench [name ...]`: measure, print a table, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from tests.bench import (
    chat,
    dashboard,
    dialogue,
    embedded,
    engine,
    imports,
    metrics,
    plans,
    queue,
    relay,
    residency,
)
from tests.bench.report import Figure, record, table

SERVER, WIDGET = "Server, engine and client", "Chat widget"
RESIDENCY, METRICS, PLANS = "Residency", "Metrics", "Plans"
MODELS = "Several models"
BENCHES: dict[str, tuple[str, Callable[[], list[Figure]]]] = {
    "imports": (SERVER, imports.measure),
    "relay": (SERVER, relay.measure),
    "embedded": (SERVER, embedded.measure),
    "chat": (WIDGET, chat.measure),
    "queue": (RESIDENCY, queue.measure),
    "residency": (RESIDENCY, residency.measure),
    "metrics-write": (METRICS, metrics.ingest),
    "metrics-soak": (METRICS, metrics.soak),
    "metrics-ask": (METRICS, metrics.queries),
    "dashboard": (METRICS, dashboard.measure),
    "dialogue": (MODELS, dialogue.measure),
    "engine": (PLANS, engine.measure),
    "plans": (PLANS, plans.measure),
}
NOTES = {
    SERVER: (
        "The relay is read by our own client over two hops, and every line is decoded twice.",
        "The floor decodes each line once with the standard library and keeps nothing.",
    ),
    WIDGET: chat.NOTES,
    RESIDENCY: (*queue.NOTES, *residency.NOTES),
    METRICS: (*metrics.NOTES, dashboard.NOTE),
    MODELS: dialogue.NOTES,
    PLANS: (*engine.NOTES, *plans.NOTES),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches named, or all; a section is recorded when all of its benches ran."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHES))
    names = parser.parse_args(arguments).names or list(BENCHES)
    unknown = set(names) - set(BENCHES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHES)}")
    measured: list[Figure] = []
    for section in NOTES:
        inside = [name for name in BENCHES if BENCHES[name][0] == section]
        figures: list[Figure] = []
        for name in (name for name in inside if name in names):
            print(f"measuring {name} ...", flush=True)
            figures += BENCHES[name][1]()
        if set(inside) <= set(names):
            record(section, figures, NOTES[section])
        measured += figures
    print(table(measured))
    return 0 if all(figure.reached is not False for figure in measured) else 1


if __name__ == "__main__":
    raise SystemExit(main())
