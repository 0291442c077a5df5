"""Figures of the server in the text format of Prometheus (exposition format 0.0.4).

Names follow OpenTelemetry's GenAI conventions as Prometheus writes them: `_` for `.`, the unit at
the end, `_total` for counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workbench.server.recording.histograms import CumulativeHistogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The bounds that OpenTelemetry advises for these two.
DURATION_BOUNDS_S = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
FIRST_TOKEN_BOUNDS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure as it is now; samples whose value is not known are left out."""

    name: str
    doc: str
    samples: tuple[tuple[Labels, float | None], ...]


class Counters:
    """What was counted since the server started."""

    def __init__(self) -> None:
        self._durations: dict[Labels, CumulativeHistogram] = {}
        self._first: dict[Labels, CumulativeHistogram] = {}
        self._tokens: dict[Labels, int] = {}

    def request_ended(
        self,
        *,
        model: str,
        operation: str,
        error_type: str | None,
        duration_s: float | None,
        first_token_s: float | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """Count one request; what is not known is not counted."""
        labels: Labels = (("gen_ai_operation_name", operation), ("gen_ai_request_model", model))
        if duration_s is not None:
            ended = (*labels, ("error_type", error_type)) if error_type else labels
            _histogram(self._durations, ended, DURATION_BOUNDS_S).add(duration_s)
        if first_token_s is not None:
            _histogram(self._first, labels, FIRST_TOKEN_BOUNDS_S).add(first_token_s)
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            if count is not None:
                key = (*labels, ("gen_ai_token_type", kind))
                self._tokens[key] = self._tokens.get(key, 0) + count

    def text(self, gauges: Iterable[Gauge] = ()) -> str:
        """Return everything in the text format."""
        lines = _histogram_lines(
            "gen_ai_server_request_duration_seconds",
            "From admission to the end of a request.",
            self._durations,
        )
        lines += _histogram_lines(
            "gen_ai_server_time_to_first_token_seconds",
            "From admission to the first piece of an answer.",
            self._first,
        )
        name = "workbench_tokens_total"
        lines += [f"# HELP {name} Tokens that backends counted.", f"# TYPE {name} counter"]
        lines += [_sample(name, labels, count) for labels, count in self._tokens.items()]
        for gauge in gauges:
            lines += [f"# HELP {gauge.name} {gauge.doc}", f"# TYPE {gauge.name} gauge"]
            lines += [
                _sample(gauge.name, labels, value)
                for labels, value in gauge.samples
                if value is not None
            ]
        return "\n".join(lines) + "\n"


def _histogram(
    into: dict[Labels, CumulativeHistogram], labels: Labels, bounds: tuple[float, ...]
) -> CumulativeHistogram:
    found = into.get(labels)
    if found is None:
        found = into[labels] = CumulativeHistogram(bounds)
    return found


def _histogram_lines(
    name: str, doc: str, histograms: Mapping[Labels, CumulativeHistogram]
) -> list[str]:
    lines = [f"# HELP {name} {doc}", f"# TYPE {name} histogram"]
    for labels, histogram in histograms.items():
        seen = 0
        bounds = [*map(_number, histogram.bounds), "+Inf"]
        for bound, count in zip(bounds, histogram.counts, strict=True):
            seen += count
            lines.append(_sample(f"{name}_bucket", (*labels, ("le", bound)), seen))
        lines.append(_sample(f"{name}_sum", labels, histogram.total))
        lines.append(_sample(f"{name}_count", labels, seen))
    return lines


def _sample(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
