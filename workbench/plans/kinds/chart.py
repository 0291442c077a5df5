"""The kind `chart`: a table as a plotly figure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import ConfigError, PlanProblem, StepFailed
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.kinds.common import check_fixed_outputs, clean, has_reference, problem
from workbench.plans.references import is_frame
from workbench.plans.spec import OutputType, Step

FORMS = ("line", "bar", "scatter", "histogram", "box", "gantt")
LARGEST_BYTES = 100_000
"""A figure that is saved in a notebook holds no more, as JSON."""

_MIME = "application/vnd.plotly.v1+json"
_COLUMNS: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
_NEEDED = {"line": "xy", "scatter": "xy", "bar": "x", "histogram": "x", "box": "y", "gantt": "xy"}


@register
class ChartKind(StepKind):
    """Draws a table; the figure is an artefact and stands in the notebook."""

    name = "chart"
    doc = "Draw a table as a plotly figure, which the notebook shows."
    fields: ClassVar[Mapping[str, Field]] = {
        "data": Field(
            "The table: a Parquet output, a list of mappings, or name to list of values.",
            {"type": ["array", "object"]},
            required=True,
        ),
        "chart": Field(
            "`line`, `scatter`, `bar` (the mean where `x` comes more than once; the number of rows "
            "without `y`), `histogram` (of `x`), `box` (of `y`), or `gantt` (`x` is begin and end, "
            "`y` the name).",
            {"enum": list(FORMS)},
            required=True,
        ),
        "x": Field("Name of the column that goes across; for `gantt` two names.", _COLUMNS),
        "y": Field("Name of the column that goes up, or a list of names.", _COLUMNS),
        "color": Field("Column whose values get a colour each.", {"type": "string"}),
        "heading": Field("Above the chart.", {"type": "string"}),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"figure": "json"}

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from check_fixed_outputs(step, self)
        form = step.config.get("chart")
        for name in _NEEDED.get(form, "") if isinstance(form, str) else "":
            if name not in step.config:
                yield problem(step, "chart", f"a {form} chart needs `{name}`.")
        x = step.config.get("x")
        if form == "gantt" and x is not None and not has_reference(x) and len(_listed(x)) != 2:
            yield problem(step, "x", "a gantt chart needs two columns for `x`: begin and end.")

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return True

    async def run(self, context: StepContext) -> Done:
        figure, rows = await asyncio.to_thread(_drawn, context.step.id, context.config)
        outputs = dict.fromkeys(context.step.outputs or ("figure",), figure)
        return Done(outputs, f"{context.config['chart']} of {rows:,} rows")

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        figure = outputs.get("figure")
        text = clean(f"{config.get('chart', 'chart')}: {config.get('heading') or 'without title'}")
        if isinstance(figure, Mapping) and len(json.dumps(figure)) <= LARGEST_BYTES:
            return {_MIME: dict(figure), "text/plain": text}
        return {"text/plain": text}


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _drawn(step_id: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return a figure as plain data, and the rows it was made of."""
    import pandas as pd

    from workbench.metrics.charts.plain import plain_chart

    data = config["data"]
    try:
        frame = data if is_frame(data) else pd.DataFrame(data)
    except (ValueError, TypeError) as exc:
        raise StepFailed(step_id, f"its data is no table: {exc}") from exc
    try:
        figure = plain_chart(
            frame,
            form=config["chart"],
            x=config.get("x"),
            y=config.get("y"),
            color=config.get("color"),
            title=config.get("heading") or "",
        )
    except ConfigError as exc:
        raise StepFailed(step_id, exc.message, hint=exc.hint) from exc
    text = figure.to_json()
    if len(text) > LARGEST_BYTES:
        raise StepFailed(
            step_id,
            f"its figure takes {len(text):,} bytes, and {LARGEST_BYTES:,} may be saved",
            hint="Draw fewer series or categories.",
        )
    return json.loads(text), len(frame)
