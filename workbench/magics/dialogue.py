"""`%%dialogue`: a YAML head says who talks and how, the text below it opens the dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from workbench.chat.dialogue_setup import GUARD
from workbench.chat.participants import Participant
from workbench.chat.runners import full_name
from workbench.chat.stops import Repetition
from workbench.errors import ConfigError, ModelNotFound
from workbench.magics.display import shown
from workbench.magics.head import RULE, Head, Where, read_head, split_head
from workbench.magics.line import AS, Line, Option, sentence, usage_error, workbench_of
from workbench.messages import OPTION_TYPES

LINE = Line(
    "%%dialogue",
    (AS, Option("--background", "", "Begin it and go on with the next cell.")),
)

FIELDS: Mapping[str, str] = {
    "participants": "Who talks: a list, or a mapping of names to models.",
    "order": "`round_robin`, `broadcast`, `debate` or `moderated`.",
    "turns": "How many turns the models take; 8 unless given, `null` is not limited.",
    "stop": "More rules: `phrase`, `tokens`, `seconds`, `judge`, `goal`, `repetition`.",
    "repetition": "`off` takes the guard against repetition away; or its `ratio` and `times`.",
    "memory": "What of a long dialogue is sent: `{window: 12}` or `{summary: MODEL}`.",
    "human": "`off`, `interject` or `approve`.",
    "judge": "The model that answers questions of stop rules.",
    "moderator": "The model that picks who speaks next.",
    "seed": "Turns without a seed of their own get this one and their number.",
    "schedule": "`memory`, `sequential` or `parallel`.",
    "swap": "Consent to what would have to leave memory.",
    "answers": "A file with what a person says where nobody looks.",
}
"""Field of the head to what it says."""

PARTICIPANT: Mapping[str, str] = {
    "name": "What the others call it.",
    "model": "The model that plays it.",
    "system": "Its system prompt.",
    "options": "Options of Ollama's API; also beside the other fields.",
    "think": "Whether or how hard it thinks.",
    "keep_alive": "How long its model stays loaded: seconds, or as `10m`.",
    "sees": "`all`, `opening`, or a list of names.",
    "share_thinking": "Whether the others hear its thinking.",
}
"""Field of a participant to what it says; options of Ollama's API may stand beside them."""

# A field that is missing is told at the one that needs it.
_RELATED = {"moderator": "order", "judge": "stop", "answers": "human"}
_EXAMPLE = f"""

    participants:
      Ann: toy-tiny
      Bob: {{model: toy-nano, temperature: 0.8}}
    turns: 4
    {RULE}
    What is the capital of France?"""


def run(shell: Any, line: str, cell: str) -> None:
    """Let models talk to each other, and show what they say.

    The cell begins with a YAML head: `participants`, `turns`, `stop`, `order` and more.  After a
    line of three dashes comes the opening.  `--as NAME` keeps the dialogue.

    Raises:
        UsageError: When something cannot be meant, or there is no such model; shows the line.
        WorkbenchError: When a turn failed; the turns before it are kept.
    """
    given = LINE.read(line)
    parts = split_head(cell)
    if parts is None:
        raise UsageError(
            f"%%dialogue: write a YAML head, a line of {RULE}, and the opening:{_EXAMPLE}"
        )
    head, opening = read_head("%%dialogue", parts[0]), parts[1].strip()
    if not opening:
        raise UsageError(f"%%dialogue: there is no opening below the line of {RULE}.")
    fields = _fields(head)
    wb = workbench_of(shell)
    try:
        dialogue = wb.dialogue(opening=opening, **fields)
        if vars(given)["as"] is not None:
            shell.user_ns[vars(given)["as"]] = dialogue
        # A model that is missing or does not fit is told before anything is shown.
        dialogue.prepare()
        with shown(dialogue):
            if given.background:
                dialogue.start()
            else:
                dialogue.run()
    except ModelNotFound as exc:
        raise _missing(head, fields, exc) from exc
    except ConfigError as exc:
        raise head.located(exc, related=_RELATED) from exc


def _fields(head: Head) -> dict[str, Any]:
    """Return what the head says as the library takes it.

    Raises:
        UsageError: When something in it cannot be meant.
    """
    head.check(FIELDS)
    fields = dict(head.values)
    fields["participants"] = _participants(head)
    if "repetition" in fields:
        fields["repetition"] = _guard(head)
    if isinstance(fields.get("stop"), list):
        fields["stop"] = _rules(head)
    elif "stop" in fields and not isinstance(fields["stop"], Mapping):
        raise head.error("`stop` is a mapping, such as {phrase: agreed}.", ("stop",))
    return fields


def _participants(head: Head) -> list[Participant]:
    given = head.values.get("participants")
    if isinstance(given, Mapping):
        cast = [(name, value, ("participants", name)) for name, value in given.items()]
    elif isinstance(given, list) and given:
        cast = [(None, value, ("participants", index)) for index, value in enumerate(given)]
    else:
        raise head.error("`participants` is a list, or a mapping of names.", ("participants",))
    return [_participant(head, name, value, where) for name, value, where in cast]


def _participant(head: Head, name: str | None, value: Any, where: Where) -> Participant:
    if isinstance(value, str) and name is not None:
        value = {"model": value}
    elif isinstance(value, str):
        said = f"a participant of a list is a mapping: {{name: Ann, model: {value}}}."
        raise head.error(said, where)
    else:
        head.check((*PARTICIPANT, *OPTION_TYPES), where)
        value = dict(value)
    if name is not None:
        value = {"name": name, **value}
    own = {key: value.pop(key) for key in tuple(value) if key in OPTION_TYPES}
    options = value.get("options") or {}
    if not isinstance(options, Mapping):
        raise head.error("`options` is a mapping.", (*where, "options"))
    if own or options:
        value["options"] = {**options, **own}
    try:
        return Participant.from_wire(value)
    except ConfigError as exc:
        raise head.located(exc, where) from exc


def _guard(head: Head) -> Repetition | None:
    value = head.values["repetition"]
    if value in ("off", False, None):
        return None
    if value in ("on", True):
        return GUARD
    head.check(("ratio", "times"), ("repetition",))
    try:
        return Repetition(**value)
    except ConfigError as exc:
        raise head.error(sentence(exc), ("repetition",)) from exc
    except (TypeError, ValueError) as exc:
        raise head.error(f"the guard does not take {value!r}.", ("repetition",)) from exc


def _rules(head: Head) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, rule in enumerate(head.values["stop"]):
        if not isinstance(rule, Mapping) or len(rule) != 1:
            raise head.error("a stop rule is one `name: value`.", ("stop", index))
        (name,) = rule
        if name in found:
            raise head.error(f"the stop rule {name!r} is given twice.", ("stop", index))
        found[name] = rule[name]
    return found


def _missing(head: Head, fields: Mapping[str, Any], error: ModelNotFound) -> UsageError:
    """Return the error about a model that is not installed, at the line that names it."""
    given = head.values["participants"]
    keys = list(given) if isinstance(given, Mapping) else list(range(len(given)))
    for key, participant in zip(keys, fields["participants"], strict=True):
        if full_name(participant.model) == full_name(error.model):
            return head.error(sentence(error), ("participants", key, "model"))
    for role in ("judge", "moderator", "memory"):
        if error.model.removesuffix(":latest") in repr(head.values.get(role)):
            return head.error(sentence(error), (role,))
    return usage_error("%%dialogue", error)
