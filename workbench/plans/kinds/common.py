"""What several kinds share: fields of a request to a model, problems with lines, safe display."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, PlanProblem, StepFailed
from workbench.messages import OPTION_TYPES, GenerateConfig, Generation, Message, check_option
from workbench.plans.kinds.base import Field, StepKind
from workbench.plans.patterns import search
from workbench.plans.references import is_frame, references_in
from workbench.plans.spec import Step

LONGEST_SHOWN = 20_000
"""Characters of one text that a cell shows."""

_LONGEST_SUMMARY = 80
# Codes that colour a terminal, move its cursor, or turn the direction of the text around it.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_TYPE_NAMES = {int: "integer", float: "number", bool: "boolean", list: "array"}
# A value within a field may be a reference, which is a text.
OPTIONS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        name: {"type": [_TYPE_NAMES[kind], "string"]} for name, kind in OPTION_TYPES.items()
    },
}

MODEL_FIELDS: Mapping[str, Field] = {
    "model": Field(
        "The model that is asked: `name`, or `name@backend`.",
        {"type": "string", "minLength": 1},
        required=True,
    ),
    "system": Field("What the model is told before everything else.", {"type": "string"}),
    "options": Field(
        "Options of Ollama's API: `temperature`, `seed`, `num_predict` ... "
        "With a seed or temperature 0 the answer may come from the cache.",
        OPTIONS_SCHEMA,
    ),
    "think": Field(
        "Whether the model thinks before it answers: true, false, or a level it knows "
        "(`low`, `medium`, `high`).",
        {"type": ["boolean", "string"]},
    ),
}
"""Fields of every kind that asks a model."""


def has_reference(value: Any) -> bool:
    """Whether a value of a plan file is, or holds, a reference: then it is known only later."""
    return next(references_in(plain(value)), None) is not None


def problem(
    step: Step, field: str, message: str, *, hint: str | None = None, offset: int = 0
) -> PlanProblem:
    """Return a problem with a field of a step, at the line of the field.

    Args:
        field: Its name; `options.seed` is a part of a field, and stands at its own line where that
            is known.
        offset: Lines below the field's own, for a text over several lines.
    """
    places = [field, field.partition(".")[0], ""]
    line = next((step.lines[place] for place in places if place in step.lines), None)
    return PlanProblem(f"{step.id}: {message}", None if line is None else line + offset, hint)


def check_fixed_outputs(step: Step, kind: StepKind) -> Iterator[PlanProblem]:
    """Yield what a step names as output that its kind does not give."""
    given = kind.outputs_of(step.config)
    for name, form in step.outputs.items():
        if name not in given:
            hint = f"It gives: {', '.join(given)}."
            yield problem(step, "outputs", f"a {kind.name} step has no output {name!r}.", hint=hint)
        elif form != given[name]:
            yield problem(
                step, "outputs", f"output {name!r} of a {kind.name} step is {given[name]}."
            )


def check_request(step: Step, config: Mapping[str, Any], field: str = "") -> Iterator[PlanProblem]:
    """Yield what is wrong with the fields of a request to a model.

    Args:
        field: The field of the step that holds them; empty when they are the step's own.
    """
    options = config.get("options", {})
    for name, value in options.items() if isinstance(options, Mapping) else ():
        try:
            if name not in OPTION_TYPES or not has_reference(value):
                check_option(name, value)
        except ConfigError as exc:
            yield problem(step, field or f"options.{name}", exc.message, hint=exc.hint)
    form = config.get("format")
    if isinstance(form, str) and form not in ("", "json") and not has_reference(form):
        yield problem(step, field or "format", "format must be `json` or a JSON schema.")
    elif isinstance(form, Mapping) and (reason := schema_problem(form)):
        yield problem(step, field or "format", f"format is no JSON schema: {reason}.")


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Return why a mapping is no JSON schema, or `None`."""
    # Imported late here and below: it takes a second where the package of IRIs is installed.
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(plain(schema))
    except SchemaError as exc:
        return f"{exc.message} at {exc.json_path}"
    return None


def plain(value: Any) -> Any:
    """Return a value of a plan as dicts and lists that every encoder takes."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def as_text(value: Any) -> str:
    """Return a value as a model reads it: a text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(records(value), ensure_ascii=False, default=str)


def answer_config(config: Mapping[str, Any]) -> GenerateConfig:
    """Return how an answer is made, from the fields of a step.

    Raises:
        ConfigError: When an option is unknown or of another type.
    """
    return GenerateConfig(
        options=config.get("options") or {},
        think=config.get("think"),
        format=plain(config.get("format")),
    )


def opening(config: Mapping[str, Any]) -> list[Message]:
    """Return the messages before the first question."""
    system = config.get("system")
    return [Message("system", as_text(system))] if system else []


def fixed_sampling(config: Mapping[str, Any]) -> bool:
    """Whether a model that is asked the same again should answer the same."""
    options = config.get("options") or {}
    return "seed" in options or options.get("temperature") == 0


def read_value(step_id: str, answer: Generation, form: str | Mapping[str, Any]) -> Any:
    """Return the JSON value of an answer, checked against the schema it was asked for.

    Raises:
        StepFailed: When it is no JSON, or another value than the schema allows.
    """
    hint = None
    if answer.stop_reason == "length":
        hint = "It was cut at its longest: raise options.num_predict, or num_ctx."
    try:
        value = json.loads(answer.text)
    except ValueError as exc:
        found = one_line(answer.text) or "nothing"
        raise StepFailed(step_id, f"the answer is no JSON ({exc}): {found}", hint=hint) from exc
    if isinstance(form, Mapping) and (wrong := first_violation(value, form)):
        raise StepFailed(step_id, f"the answer does not follow the format: {wrong}", hint=hint)
    return value


def first_violation(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return in what a value differs from a JSON schema, or `None` when it does not."""
    found = violations(value, schema)
    if not found:
        return None
    place, expected, given = found[0]
    return f"at {place} expected {expected}, found {given}"


def violations(value: Any, schema: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return where a value differs from a schema, what was expected there, and what was found."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not search(wanted, instance):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    checker = validators.extend(Draft202012Validator, {"pattern": pattern})
    errors = checker(plain(schema)).iter_errors(value)
    return [
        (
            error.json_path,
            one_line(f"{error.validator} {_json(error.validator_value)}", 200),
            one_line(_json(error.instance), 200),
        )
        for error in sorted(errors, key=lambda error: str(error.json_path))
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def records(value: Any) -> Any:
    """Return a frame as the list of its rows, as JSON holds them, and all else as it is."""
    if not is_frame(value):
        return plain(value)
    return json.loads(value.to_json(orient="records", date_format="iso"))


def chosen(step: Step, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that a step names; all of them when it names none."""
    names = step.outputs or outputs
    return {name: outputs[name] for name in names if name in outputs}


def clean(text: str) -> str:
    """Return a text without the codes that would colour, move or turn what is around it."""
    return _CONTROLS.sub("\ufffd", text)


def one_line(text: str, longest: int = _LONGEST_SUMMARY) -> str:
    """Return the beginning of a text as one line."""
    line = clean(" ".join(text[: longest * 4].split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def text_bundle(text: str) -> dict[str, Any]:
    """Return a text as a cell may show it: what a model wrote is never HTML or Markdown."""
    shown = clean(text)
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}\n… {len(shown) - LONGEST_SHOWN:,} characters more"
    return {"text/plain": shown}


def value_bundle(value: Any) -> dict[str, Any]:
    """Return a value as a cell may show it: a text as it is, all else as indented JSON."""
    if isinstance(value, str):
        return text_bundle(value)
    if is_frame(value):
        return text_bundle(f"{value.head(20).to_string()}\n[{len(value):,} rows]")
    return text_bundle(json.dumps(plain(value), ensure_ascii=False, indent=2, default=str))


def outputs_bundle(outputs: Mapping[str, Any], *, main: str) -> dict[str, Any]:
    """Return the outputs of a step as a cell may show them.

    Args:
        main: The output that is shown alone when the step ran once; of a `foreach`, all of them.
    """
    found = outputs.get(main)
    if isinstance(found, list) and "table" in outputs:
        return text_bundle(
            "\n".join(
                f"{number}: {one_line(as_text(item), 200)}" for number, item in enumerate(found)
            )
        )
    if main in outputs:
        return value_bundle(found)
    return value_bundle(dict(outputs))


class AskingKind(StepKind):
    """A kind that asks a model: what is wrong with its request, and when it is repeatable."""

    model_bound = True

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from check_fixed_outputs(step, self)
        yield from check_request(step, step.config)

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return fixed_sampling(config)
