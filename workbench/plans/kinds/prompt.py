"""The kind `prompt`: one question to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from workbench.messages import Message
from workbench.plans.kinds.base import Done, Field, StepContext, register
from workbench.plans.kinds.common import (
    MODEL_FIELDS,
    AskingKind,
    answer_config,
    as_text,
    chosen,
    one_line,
    opening,
    outputs_bundle,
    read_value,
)
from workbench.plans.spec import OutputType


@register
class PromptKind(AskingKind):
    """Asks one question; with a format the answer is also a checked JSON value."""

    name = "prompt"
    doc = "Ask a model one question; with `format` the answer is a JSON value that is checked."
    fields: ClassVar[Mapping[str, Field]] = {
        **MODEL_FIELDS,
        "prompt": Field(
            "The question. What is no text is sent as JSON.", {"type": "string"}, required=True
        ),
        "format": Field(
            "`json`, or a JSON schema that the answer must follow; the value is then the output "
            "`value`. An answer that does not follow it fails the attempt, and `retries` applies.",
            {"anyOf": [{"const": "json"}, {"type": "object"}]},
        ),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"text": "json"}

    def outputs_of(self, config: Mapping[str, Any]) -> Mapping[str, OutputType]:
        if config.get("format"):
            return {"text": "json", "value": "json"}
        return self.default_outputs

    async def run(self, context: StepContext) -> Done:
        config = context.config
        question = Message("user", as_text(config["prompt"]))
        answer = await context.ask(
            config["model"], [*opening(config), question], config=answer_config(config)
        )
        outputs: dict[str, Any] = {"text": answer.text}
        if form := config.get("format"):
            outputs["value"] = read_value(context.step.id, answer, form)
        return Done(chosen(context.step, outputs), one_line(answer.text))

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        return outputs_bundle(outputs, main="value" if "value" in outputs else "text")
