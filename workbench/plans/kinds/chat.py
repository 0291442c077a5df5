"""The kind `chat`: several questions to a model, each after the answer to the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from workbench.errors import StepFailed
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
    text_bundle,
)
from workbench.plans.spec import OutputType


@register
class ChatKind(AskingKind):
    """Holds a conversation whose questions are known beforehand."""

    name = "chat"
    doc = "Ask a model a list of questions in turn, in one conversation."
    fields: ClassVar[Mapping[str, Field]] = {
        **MODEL_FIELDS,
        "messages": Field(
            "What the user says, one text for each turn; the model answers each.",
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            required=True,
        ),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"text": "json", "messages": "json"}

    async def run(self, context: StepContext) -> Done:
        config = context.config
        questions = config["messages"]
        if isinstance(questions, str) or not questions:
            raise StepFailed(
                context.step.id, f"messages must be a list of texts, not {questions!r}"
            )
        said, text = opening(config), ""
        for number, question in enumerate(questions, 1):
            context.phase("asking", f"{number} of {len(questions)}")
            said.append(Message("user", as_text(question)))
            answer = await context.ask(config["model"], list(said), config=answer_config(config))
            said.append(Message("assistant", answer.text))
            text = answer.text
        messages = [{"role": message.role, "content": message.content} for message in said]
        outputs = {"text": text, "messages": messages}
        turns = "1 turn" if len(questions) == 1 else f"{len(questions)} turns"
        return Done(chosen(context.step, outputs), f"{turns}: {one_line(text)}")

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        messages = outputs.get("messages")
        if not messages or "table" in outputs:
            return outputs_bundle(outputs, main="text")
        return text_bundle("\n\n".join(f"{m['role']}: {m['content']}" for m in messages))
