"""Any plan, for hypothesis."""

from __future__ import annotations

import keyword
from typing import Any

from hypothesis import strategies as st

from tests.plans import tiny
from workbench.plans.params import LARGEST_BITS
from workbench.plans.spec import Param, Plan, Retries, Step
from workbench.plans.validate import RESERVED

assert tiny

_TAKEN = RESERVED | {"table", "errors"}
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in _TAKEN and not keyword.iskeyword(name)
)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
ints = st.integers(-(2**LARGEST_BITS) + 1, 2**LARGEST_BITS - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
tricky = st.sampled_from(
    ["no", "1e3", "2026-01-02", "~", "", "0777", "1:30", "=", "<<", "a: b", "- x", " a\n b", "\n",
     "a\n\nb\n", "x\r\ny", "null", "0x1f", "#", "'", "a\tb\nc", "a \nb", "%x", "é\u2028b", "\x85"]
)  # fmt: skip
scalars = st.none() | st.booleans() | ints | floats | texts | tricky
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
).map(lambda value: _without_dollars(value))
plain = texts.map(lambda text: text.replace("$", "")) | tricky


def _without_dollars(value: Any) -> Any:
    """Escape what a reference could be: those are added where they lead somewhere."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_without_dollars(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_dollars(item) for key, item in value.items()}
    return value


@st.composite
def params(draw: st.DrawFn, name: str) -> Param:
    """Return any parameter of that name."""
    help_text = draw(texts)
    kind = draw(st.sampled_from(["int", "float", "str", "bool", "choice", "list[str]", "secret"]))
    if kind == "secret":
        return Param(name, "secret", env=draw(names), help=help_text)
    choices = draw(st.lists(texts, min_size=1, max_size=3, unique=True)) if kind == "choice" else []
    defaults: dict[str, st.SearchStrategy[Any]] = {
        "int": ints,
        "float": floats,
        "str": texts | tricky,
        "bool": st.booleans(),
        "choice": st.sampled_from(choices or [""]),
        "list[str]": st.lists(texts | tricky, max_size=3),
    }
    return Param(
        name,
        kind,  # type: ignore[arg-type]
        draw(st.none() | defaults[kind]),
        draw(st.booleans()),
        help_text,
        tuple(choices),
    )


@st.composite
def steps(draw: st.DrawFn, name: str, before: list[str]) -> Step:
    """Return any step that may refer to those before it."""
    references = [f"${other}.text" for other in before] + [
        f"x ${{{other}.text}}" for other in before
    ]
    linked = st.sampled_from(references) if references else st.just("x")
    foreach = draw(st.dictionaries(st.just("each_one"), st.lists(values, max_size=2), max_size=1))
    config: dict[str, Any] = {
        "model": draw(plain.filter(bool)),
        "prompt": draw(linked | plain.filter(bool)),
        "data": draw(values),
        "options": {"seed": draw(ints), "temperature": draw(st.floats(0, 2))},
    }
    outputs = draw(st.dictionaries(names, st.sampled_from(["json", "parquet"]), max_size=2))
    return Step(
        name,
        "tiny_ask",
        needs=tuple(draw(st.sets(st.sampled_from(before)))) if before else (),
        inputs=draw(st.dictionaries(names, values | linked, max_size=2)),
        outputs={"text": "json", **outputs} if outputs else {"text": "json"},
        foreach=foreach,
        when=f"len({before[0]}.text) > 1" if before and draw(st.booleans()) else None,
        retries=draw(
            st.builds(Retries, st.integers(0, 100))
            | st.builds(Retries, st.integers(0, 9), st.floats(0, 9), st.floats(1, 9))
        ),
        timeout_s=draw(st.none() | st.floats(0.001, 1000)),
        cache=draw(st.none() | st.booleans()),
        max_parallel=draw(st.none() | st.integers(1, 9)) if foreach else None,
        effects=draw(st.sampled_from(["none", "external"])),
        on_error=draw(st.sampled_from(["fail", "keep"])) if foreach else "fail",
        title=draw(texts | tricky),
        config=config,
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Return any good plan, its steps in any order."""
    used = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    cut = draw(st.integers(1, len(used)))
    made: list[Step] = []
    for name in used[:cut]:
        made.append(draw(steps(name, [step.id for step in made])))
    return Plan(
        draw(st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,2}", fullmatch=True).filter(_short)),
        tuple(draw(st.permutations(made))),
        goal=draw(texts | tricky),
        params=tuple(draw(params(name)) for name in used[cut:]),
    )


def _short(name: str) -> bool:
    return len(name) <= 64
