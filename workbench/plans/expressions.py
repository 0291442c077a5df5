"""Expressions of a plan (`when`, `expr`, `assert`): a small language, walked and never executed.

It has literals, names, `a.b` and `a["b"]` for keys and columns, `a[0]`, comparisons, `and or not`,
`+ - * / // %` of numbers, `x if c else y`, lists, comprehensions over lists, and the functions in
`FUNCTIONS`.  No attribute of an object is ever read, and size and work are limited, so that a plan
of somebody else can be checked and run without fear of its expressions.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from workbench.errors import PlanError, PlanProblem
from workbench.plans.work import FUNCTIONS, OPERATORS, Worker

LONGEST = 2000
"""Characters an expression may have."""
DEEPEST = 40
"""How deep an expression may be nested."""

_FILTERS = threading.Lock()
_KEYWORDS = {"sorted": {"reverse"}, "min": {"default"}, "max": {"default"}}
_NODES = (
    ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.Call, ast.Constant, ast.Name,
    ast.Attribute, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.ListComp, ast.GeneratorExp,
)  # fmt: skip
_WORDS: Mapping[type[ast.AST], str] = {
    ast.Lambda: "lambda",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "`:=`",
    ast.Await: "await",
    ast.Dict: "a mapping",
    ast.Set: "a set",
    ast.Starred: "`*`",
    ast.Pow: "`**`",
}


def check_expression(text: str) -> frozenset[str] | PlanProblem:
    """Return the names an expression uses, or what is wrong with it."""
    try:
        return frozenset(path[0] for path in paths_in(text))
    except PlanError as exc:
        return PlanProblem(exc.message, hint=exc.hint)


def paths_in(text: str) -> tuple[tuple[str, ...], ...]:
    """Return what an expression refers to, as paths: `("ask", "errors")` for `ask.errors`.

    Raises:
        PlanError: When it is no expression.
    """
    return tuple(dict.fromkeys(_paths(_parsed(text), frozenset())))


def evaluate(text: str, scope: Mapping[str, Any]) -> Any:
    """Return the value of an expression.

    Args:
        scope: `params`, ids of steps and variables to JSON values and DataFrames.

    Raises:
        PlanError: When it is no expression, or has no value here; nothing else is raised.
    """
    tree = _parsed(text)
    try:
        return _Walk(scope, Worker()).value(tree, {})
    except PlanError as exc:
        raise PlanError(f"{_short(text)}: {exc.message}", hint=exc.hint) from exc
    except (ArithmeticError, TypeError, ValueError, RecursionError) as exc:
        raise PlanError(f"{_short(text)}: {exc}.") from exc


@lru_cache(maxsize=512)
def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise PlanError(f"An expression has at most {LONGEST} characters, not {len(text)}.")
    try:
        # An unknown escape in a text, which Python only warns of.  The filters are those of the
        # whole process: two threads that change them at once would leave them changed.
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        reason = exc.msg if isinstance(exc, SyntaxError) else "it cannot be read"
        hint = "Names stand without `$` in an expression." if "$" in text else None
        raise PlanError(f"{_short(text)} is not an expression: {reason}.", hint=hint) from exc
    _check(tree, 0, text)
    return tree


def _check(node: ast.AST, depth: int, text: str) -> None:
    """Refuse everything that is not on the list.

    Raises:
        PlanError: When there is such a thing, or the nesting is too deep.
    """
    if depth > DEEPEST:
        raise PlanError(f"{_short(text)} is nested too deep: more than {DEEPEST} levels.")
    reason = _refusal(node)
    if reason:
        raise PlanError(f"{_short(text)} is not an expression: {reason}.", hint=_ALLOWED)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.operator | ast.cmpop | ast.boolop | ast.unaryop | ast.keyword):
            _check(child, depth + 1, text)
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            _check(keyword.value, depth + 1, text)


_ALLOWED = f"It may use and, or, not, comparisons, arithmetic, and: {', '.join(FUNCTIONS)}."


def _refusal(node: ast.AST) -> str | None:
    """Return why a node is not allowed, or `None`."""
    if isinstance(node, ast.expr_context):
        return None
    if isinstance(node, ast.comprehension):
        bad = node.is_async or not isinstance(node.target, ast.Name)
        return "a comprehension has one simple variable" if bad else None
    if not isinstance(node, _NODES):
        return f"{_WORDS.get(type(node), type(node).__name__)} is not allowed"
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        return f"{name!r} is not allowed" if name.startswith("__") else None
    if isinstance(node, ast.Constant):
        plain = node.value is None or isinstance(node.value, bool | int | float | str)
        small = not isinstance(node.value, int) or node.value.bit_length() <= 128
        return None if plain and small else "that literal is not allowed"
    if isinstance(node, ast.BinOp) and type(node.op) not in OPERATORS:
        return f"{_WORDS.get(type(node.op), type(node.op).__name__)} is not allowed"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return "`~` is not allowed"
    if isinstance(node, ast.Call):
        return _call_refusal(node)
    return None


def _call_refusal(node: ast.Call) -> str | None:
    if not isinstance(node.func, ast.Name):
        return "only a function can be called"
    name = node.func.id
    if name not in FUNCTIONS:
        return f"there is no function {name!r}"
    for keyword in node.keywords:
        if keyword.arg not in _KEYWORDS.get(name, ()):
            return f"{name} takes no {keyword.arg or '**'}"
    return None


def _paths(node: ast.AST, bound: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of free names; a subscript that is no constant ends its path."""
    path = _path(node)
    if path is not None:
        if path[0] not in bound:
            yield path
        return
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        for generator in node.generators:
            yield from _paths(generator.iter, bound)
            if isinstance(generator.target, ast.Name):
                bound |= {generator.target.id}
            for condition in generator.ifs:
                yield from _paths(condition, bound)
        yield from _paths(node.elt, bound)
        return
    skipped = node.func if isinstance(node, ast.Call) else None
    for child in ast.iter_child_nodes(node):
        if child is not skipped:
            yield from _paths(child, bound)


def _path(node: ast.AST) -> tuple[str, ...] | None:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        before = _path(node.value)
        return (*before, node.attr) if before else None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        before = _path(node.value)
        key = node.slice.value
        if before and isinstance(key, str | int) and not isinstance(key, bool):
            return (*before, str(key))
    return None


class _Walk:
    """Computes the value of one expression, node by node."""

    def __init__(self, scope: Mapping[str, Any], worker: Worker) -> None:
        self._scope = scope
        self._worker = worker

    def value(self, node: ast.expr, bound: Mapping[str, Any]) -> Any:
        """Return the value of a node; `bound` are the variables of comprehensions."""
        self._worker.spend(1)
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                if node.id in bound:
                    return bound[node.id]
                return self._worker.part(self._scope, node.id, "")
            case ast.Attribute():
                return self._worker.part(self.value(node.value, bound), node.attr, _name(node))
            case ast.Subscript():
                return self._subscript(node, bound)
            case ast.BoolOp():
                return self._bool(node, bound)
            case ast.UnaryOp():
                return self._unary(node, bound)
            case ast.BinOp():
                left, right = self.value(node.left, bound), self.value(node.right, bound)
                return self._worker.operate(OPERATORS[type(node.op)], left, right)
            case ast.Compare():
                return self._compare(node, bound)
            case ast.IfExp():
                chosen = node.body if self.value(node.test, bound) else node.orelse
                return self.value(chosen, bound)
            case ast.List() | ast.Tuple():
                return [self.value(item, bound) for item in node.elts]
            case ast.Call():
                return self._call(node, bound)
            case ast.ListComp() | ast.GeneratorExp():
                return list(self._items(node, node.generators, bound))
            case _:
                raise PlanError(f"{type(node).__name__} is not allowed.")

    def _bool(self, node: ast.BoolOp, bound: Mapping[str, Any]) -> Any:
        stops_at = isinstance(node.op, ast.Or)
        value: Any = None
        for operand in node.values:
            value = self._truth(self.value(operand, bound))
            if value is stops_at:
                break
        return value

    def _unary(self, node: ast.UnaryOp, bound: Mapping[str, Any]) -> Any:
        operand = self.value(node.operand, bound)
        if isinstance(node.op, ast.Not):
            return not self._truth(operand)
        return self._worker.operate("-" if isinstance(node.op, ast.USub) else "+", 0, operand)

    def _truth(self, value: Any) -> bool:
        return self._worker.truth(value)

    def _compare(self, node: ast.Compare, bound: Mapping[str, Any]) -> bool:
        left = self.value(node.left, bound)
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator, bound)
            if not self._worker.compare(operator, left, right):
                return False
            left = right
        return True

    def _subscript(self, node: ast.Subscript, bound: Mapping[str, Any]) -> Any:
        value = self.value(node.value, bound)
        if isinstance(node.slice, ast.Slice):
            ends = (node.slice.lower, node.slice.upper, node.slice.step)
            return self._worker.cut(value, *(e and self.value(e, bound) for e in ends))
        return self._worker.part(value, self.value(node.slice, bound), _name(node))

    def _call(self, node: ast.Call, bound: Mapping[str, Any]) -> Any:
        assert isinstance(node.func, ast.Name)
        given = [self.value(item, bound) for item in node.args]
        named = {str(k.arg): self.value(k.value, bound) for k in node.keywords}
        return self._worker.call(node.func.id, given, named)

    def _items(
        self,
        node: ast.ListComp | ast.GeneratorExp,
        generators: list[ast.comprehension],
        bound: Mapping[str, Any],
    ) -> Iterator[Any]:
        if not generators:
            yield self.value(node.elt, bound)
            return
        first, *rest = generators
        assert isinstance(first.target, ast.Name)
        for item in self._worker.items(self.value(first.iter, bound)):
            inner = {**bound, first.target.id: item}
            if all(self._truth(self.value(condition, inner)) for condition in first.ifs):
                yield from self._items(node, rest, inner)


def _name(node: ast.expr) -> str:
    """Name what stands before the last part, for messages."""
    path = _path(node)
    return ".".join(path[:-1]) if path else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"`{line if len(line) <= 80 else line[:77] + '...'}`"
