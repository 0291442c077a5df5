"""`%%compare MODEL MODEL`: the cell is a prompt, or several with a line of `---` between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from workbench.chat.runners import full_name
from workbench.errors import ConfigError, ModelNotFound
from workbench.magics.display import shown
from workbench.magics.head import RULE, Head, read_head, split_head
from workbench.magics.line import (
    AS,
    KEEP_ALIVE,
    SYSTEM,
    THINK,
    Line,
    Option,
    keeping,
    sentence,
    thinking,
    usage_error,
    workbench_of,
)
from workbench.messages import OPTION_TYPES
from workbench.widgets.headless import in_kernel

LINE = Line(
    "%%compare",
    (
        AS,
        Option("--blind", "", "Hide names, order and speed until a prompt is voted on."),
        Option("--order-seed", "N", "Seed of the order in which blind answers stand.", kind=int),
        Option("--sequential", "", "Ask one model after the other, as timings need it."),
        Option("--swap", "", "Consent to what would have to leave memory."),
        SYSTEM,
        THINK,
        KEEP_ALIVE,
    ),
    models="some",
    with_model_options=True,
)

FIELDS: Mapping[str, str] = {
    "models": "The models: names, or mappings with `model` and what is its own.",
    "system": "The system prompt of all.",
    "options": "Options of Ollama's API for all.",
    "think": "Whether or how hard to think.",
    "keep_alive": "How long the models stay loaded: seconds, or as `10m`.",
}
"""Field of the head of a cell without models on its line to what it says."""

MODEL_FIELDS = ("model", "name", "system", "options", "think", "keep_alive")
_RULES = re.compile(rf"^{RULE}[ \t]*$", re.MULTILINE)


def run(shell: Any, line: str, cell: str) -> None:
    """Ask several models the same and show the answers side by side.

    `%%compare toy-nano toy-tiny --as sides` keeps the comparison as `sides`.  Without models on
    the line the cell begins with a YAML head, in which each model may have options of its own.

    Raises:
        UsageError: When something cannot be meant, or there is no such model.
    """
    given = LINE.read(line)
    options = LINE.options_of(given)
    head, body = None, cell
    if not given.models:
        parts = split_head(cell)
        if parts is None:
            raise UsageError(
                "%%compare: name the models on the line, or in a YAML head above a line of "
                f"{RULE}:\n\n    models: [toy-nano, toy-tiny]\n    {RULE}\n    The prompt."
            )
        head, body = _read(parts[0]), parts[1]
    prompts = [part.strip() for part in _RULES.split(body) if part.strip()]
    if not prompts:
        raise UsageError("%%compare: the cell has no prompt.")
    wb = workbench_of(shell)
    try:
        comparison = wb.compare(
            given.models or _models(head),
            blind=given.blind,
            order_seed=given.order_seed,
            schedule="sequential" if given.sequential else "memory",
            swap=given.swap,
            **_settings(given, head, options),
        )
        if vars(given)["as"] is not None:
            shell.user_ns[vars(given)["as"]] = comparison
        if in_kernel():
            with shown(comparison):
                comparison.ask(prompts)
        else:
            comparison.ask(prompts, show=True)
    except ModelNotFound as exc:
        raise _missing(head, exc) from exc
    except ConfigError as exc:
        raise (usage_error("%%compare", exc) if head is None else head.located(exc)) from exc


def _read(text: str) -> Head:
    head = read_head("%%compare", text)
    head.check(FIELDS)
    models = head.values.get("models")
    if not isinstance(models, list) or not models:
        raise head.error("`models` is a list of models.", ("models",))
    for index, model in enumerate(models):
        if isinstance(model, Mapping):
            head.check((*MODEL_FIELDS, *OPTION_TYPES), ("models", index))
            if not isinstance(model.get("model"), str):
                raise head.error("this one has no `model`.", ("models", index))
        elif not isinstance(model, str):
            raise head.error(f"{model!r} is no name of a model.", ("models", index))
    return head


def _models(head: Head | None) -> list[Any]:
    return [] if head is None else list(head.values["models"])


def _settings(given: Any, head: Head | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return what is for all models: of the head, with the line laid over it."""
    values = {} if head is None else head.values
    own = values.get("options") or {}
    if head is not None and not isinstance(own, Mapping):
        raise head.error("`options` is a mapping.", ("options",))
    if head is not None and not isinstance(values.get("system"), str | None):
        raise head.error("`system` is a text.", ("system",))
    think, keep_alive = thinking(given.think), keeping(given.keep_alive)
    return {
        "system": values.get("system") if given.system is None else given.system,
        "options": {**own, **options},
        "think": values.get("think") if think is None else think,
        "keep_alive": values.get("keep_alive") if keep_alive is None else keep_alive,
    }


def _missing(head: Head | None, error: ModelNotFound) -> UsageError:
    for index, model in enumerate(_models(head)):
        name = model.get("model") if isinstance(model, Mapping) else model
        if head is not None and full_name(str(name)) == full_name(error.model):
            key = ("model",) if isinstance(model, Mapping) else ()
            return head.error(sentence(error), ("models", index, *key))
    return usage_error("%%compare", error)
