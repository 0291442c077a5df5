"""A model that judges: which of two texts is better, and yes or no about a dialogue.

A pair is judged in both orders, because models prefer a place; verdicts that disagree are a tie.
Every verdict is a row of `evaluations`, with the judge's model, digest and request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from workbench.chat.exchange import Recover, Request, answered, choice_in
from workbench.chat.orders import choice_config
from workbench.chat.window import TokenMeter
from workbench.client.api import WorkbenchClient
from workbench.client.values import Printed
from workbench.errors import ConfigError
from workbench.messages import Generation, Message
from workbench.portal import get_portal
from workbench.units import sortable_id, utc_now

Winner = Literal["a", "b", "tie"]
Order = Literal["ab", "ba"]

RUBRIC = "Prefer what is right, answers the task, and says so clearly; length is no merit."

_PAIR = ("A", "B", "tie")
_ANSWERS = ("yes", "no")
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Judge:
    """Which model judges, and by what.

    Attributes:
        model: Its name.
        rubric: What it goes by when it compares two texts.
        options: Ollama options; without a temperature it is 0.
    """

    model: str
    rubric: str = RUBRIC
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("a judge needs a model.", key="judge")
        choice_config(_PAIR, options=self.options, seed=None)

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def rubric_sha(self) -> str:
        """Return the SHA-256 of the rubric."""
        return hashlib.sha256(self.rubric.encode()).hexdigest()

    def messages(self, task: str, first: str, second: str) -> list[Message]:
        """Return what it is asked about two texts, in the order it sees them."""
        return [
            Message("system", f"You compare two texts, A and B. {self.rubric}"),
            Message(
                "user",
                f"The task:\n{task}\n\nText A:\n{first}\n\nText B:\n{second}\n\n"
                'Which is better? Answer with JSON: {"choice": "A", "B" or "tie"}.',
            ),
        ]

    def question(self, said: str, question: str) -> list[Message]:
        """Return what it is asked about a dialogue."""
        return [
            Message("system", "You judge a conversation. Answer only what you are asked."),
            Message(
                "user", f'{said}\n\n{question}\nAnswer with JSON: {{"choice": "yes" or "no"}}.'
            ),
        ]


def as_judge(judge: Judge | str | Mapping[str, Any] | None) -> Judge | None:
    """Return a judge given as an object, a model's name or a mapping of its fields.

    Raises:
        ConfigError: When it is none of these.
    """
    if judge is None or isinstance(judge, Judge):
        return judge
    if isinstance(judge, str):
        return Judge(judge)
    try:
        return Judge(**judge)
    except TypeError as exc:
        raise ConfigError(f"{judge!r} is no judge.", key="judge") from exc


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a model that was asked to choose.

    Attributes:
        value: One of the choices; empty when the answer named none.
    """

    value: str
    generation: Generation
    config: Mapping[str, Any]
    messages_sha: str
    attempt: int = 0


async def choose(
    client: WorkbenchClient,
    request: Request,
    choices: tuple[str, ...],
    *,
    meter: TokenMeter,
    recover: Recover | None = None,
) -> list[Choice]:
    """Ask for one of the choices, and once more when the answer names none.

    Returns:
        Each attempt; the last one counts.

    Raises:
        WorkbenchError: When the model could not be asked.
    """
    made: list[Choice] = []
    for attempt in range(_ATTEMPTS):
        generation, sha = await answered(client, request, meter=meter, recover=recover)
        value = choice_in(generation.text, choices)
        made.append(Choice(value, generation, request.config.to_wire(), sha, attempt))
        if value:
            break
    return made


@dataclass(frozen=True, slots=True)
class Seen:
    """What a judge said of a pair in one order; empty when it named nobody."""

    order: Order
    winner: Winner | Literal[""]
    request_id: str
    text: str


@dataclass(frozen=True)
class Verdict(Printed):
    """What a judge found of two texts.

    Attributes:
        winner: `tie` also when the two orders disagree or an answer could not be used.
        agreed: Whether both orders named the same.
        seen: What it said in each order.
        a: Whose text the first one is.
        b: Whose text the second one is.
        digest: Of the judge's model.
    """

    winner: Winner
    agreed: bool
    judge: str
    a: str = "a"
    b: str = "b"
    digest: str | None = None
    rubric_sha: str = ""
    seen: tuple[Seen, ...] = ()

    @property
    def name(self) -> str:
        """Whose text is better, or `tie`."""
        return {"a": self.a, "b": self.b, "tie": "tie"}[self.winner]

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        said = {item.order: item.winner or "no answer" for item in self.seen}
        return {
            "A": self.a,
            "B": self.b,
            "BETTER": self.name,
            "AGREED": "yes" if self.agreed else "no",
            "A FIRST": said.get("ab", "not asked"),
            "B FIRST": said.get("ba", "not asked"),
            "JUDGE": self.judge,
        }

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def winner_of(choice: str, order: Order) -> Winner | Literal[""]:
    """Return who a choice means, given the order in which the judge saw the texts."""
    if choice == "tie":
        return "tie"
    first, second = ("a", "b") if order == "ab" else ("b", "a")
    found: dict[str, Winner | Literal[""]] = {"A": first, "B": second}  # type: ignore[dict-item]
    return found.get(choice, "")


def verdict_of(seen: tuple[Seen, ...], **about: Any) -> Verdict:
    """Return the verdict of both orders: what they agree on, else a tie."""
    winners = {item.winner for item in seen}
    agreed = len(winners) == 1 and "" not in winners
    winner: Winner = "tie"
    if agreed and (only := next(iter(winners))):
        winner = only
    return Verdict(winner, agreed, seen=seen, **about)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts to be judged.

    Attributes:
        task: What both answer.
        names: Whose they are.
        request_ids: The requests that made them; empty when there is none.
        item: What the row is about, e.g. the id of a dialogue.
    """

    task: str
    a: str
    b: str
    names: tuple[str, str] = ("a", "b")
    request_ids: tuple[str, str] = ("", "")
    context: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    digest: str | None = None
    context_tokens: int | None = None


async def ajudge_pair(
    client: WorkbenchClient,
    judge: Judge,
    pair: Pair,
    *,
    meter: TokenMeter | None = None,
    recover: Recover | None = None,
) -> tuple[Verdict, list[Choice]]:
    """Judge a pair in both orders, and record a row of `evaluations` for each; on the portal.

    Returns:
        The verdict, and every answer of the judge.

    Raises:
        WorkbenchError: When the judge could not be asked.
    """
    meter = meter or TokenMeter()
    seen: list[Seen] = []
    made: list[Choice] = []
    orders: tuple[Order, ...] = ("ab", "ba")
    for order in orders:
        texts = (pair.a, pair.b) if order == "ab" else (pair.b, pair.a)
        request = Request(
            judge.model,
            judge.messages(pair.task, *texts),
            choice_config(_PAIR, options=judge.options, seed=pair.seed),
            {**pair.context, "speaker": "judge"},
            pair.context_tokens,
        )
        choices = await choose(client, request, _PAIR, meter=meter, recover=recover)
        made += choices
        last = choices[-1]
        winner = winner_of(last.value, order)
        seen.append(Seen(order, winner, last.generation.request_id, last.generation.text))
        _record(client, judge, pair, seen[-1])
    verdict = verdict_of(
        tuple(seen),
        judge=judge.model,
        a=pair.names[0],
        b=pair.names[1],
        digest=pair.digest,
        rubric_sha=judge.rubric_sha(),
    )
    return verdict, made


def judge_pair(client: WorkbenchClient, judge: Judge, pair: Pair) -> Verdict:
    """Judge a pair and wait for the verdict; see `ajudge_pair`."""
    return get_portal().run(ajudge_pair(client, judge, pair))[0]


_SCORES: Mapping[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


def _record(client: WorkbenchClient, judge: Judge, pair: Pair, seen: Seen) -> None:
    if client.records is None:
        return
    row: dict[str, Any] = {
        "id": sortable_id(),
        "ts": utc_now(),
        "request_id_a": pair.request_ids[0] or None,
        "request_id_b": pair.request_ids[1] or None,
        "gen_ai_evaluation_name": "judge",
        "gen_ai_evaluation_score_value": _SCORES.get(seen.winner),
        "gen_ai_evaluation_score_label": seen.winner or "none",
        "gen_ai_evaluation_explanation": seen.text[:2000],
        "scorer_kind": "pairwise",
        "scorer_version": judge.rubric_sha(),
        "judge_model": judge.model,
        "judge_digest": pair.digest,
        "judge_request_id": seen.request_id or None,
        "order": seen.order,
        "rubric_sha": judge.rubric_sha(),
    }
    for name in ("conversation", "turn", "item"):
        if pair.context.get(name) is not None:
            row[name] = pair.context[name]
    client.records.write("evaluations", {k: v for k, v in row.items() if v is not None})


async def aask_judge(
    client: WorkbenchClient,
    judge: Judge,
    request: tuple[str, str],
    *,
    context: Mapping[str, object],
    seed: int | None,
    meter: TokenMeter,
    context_tokens: int | None = None,
    recover: Recover | None = None,
) -> list[Choice]:
    """Ask a judge yes or no about a dialogue; `request` is what was said, and the question.

    Returns:
        Each attempt; an answer that is neither counts as no.
    """
    asked = Request(
        judge.model,
        judge.question(*request),
        choice_config(_ANSWERS, options=judge.options, seed=seed),
        {**context, "speaker": "judge"},
        context_tokens,
    )
    return await choose(client, asked, _ANSWERS, meter=meter, recover=recover)
