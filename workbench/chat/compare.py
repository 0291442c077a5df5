"""`Comparison`: the same prompts to several models, side by side, and votes between the answers.

Answers are asked for by model and not by prompt, so that each model is loaded once; models that fit
into memory together answer at the same time.
"""

from __future__ import annotations

import asyncio
import getpass
import itertools
import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.chat import compare_export as export
from workbench.chat.compare_reading import Document, read
from workbench.chat.compare_run import ComparisonRun, Listener, Schedule
from workbench.chat.compare_values import (
    VERDICTS,
    Answer,
    Asked,
    ComparisonEvent,
    Contender,
    Prompt,
    Verdict,
    as_prompt,
    contenders,
    vote_row,
)
from workbench.chat.dialogue_values import LaneState
from workbench.chat.show import PlainPrinter
from workbench.chat.viewers import bundle_of
from workbench.client.api import WorkbenchClient
from workbench.client.records import Records
from workbench.errors import (
    ConfigError,
    StoreError,
)
from workbench.messages import (
    Failed,
    Finished,
    GenerateConfig,
    Message,
    StopReason,
    TextDelta,
)
from workbench.portal import PortalFuture, Relay, get_portal
from workbench.units import sortable_id, utc_now

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode


class Comparison(ComparisonRun):
    """The same prompts to several models; get one from `wb.compare(...)`.

    Interrupting the kernel stops the answers; what came of them is kept.

    Args:
        client: The door to the server.
        models: Names, mappings or `Contender` objects; see `contenders`.
        system: The system prompt of all.
        options: Options of Ollama's API for all.
        think: Whether or how hard to think, for all.
        keep_alive: How long models stay loaded, for all.
        blind: Whether names, order and speed are hidden until a prompt is voted on.
        order_seed: Of the order in which answers are shown; a random one unless given.
        schedule: `memory` lets models that fit together answer at the same time; `sequential`
            asks one after the other, as timings need it.
        swap: Consent to what would have to leave memory, where the server asks for it.
        kind: What asks, for the record: `widget` for a view; `None` is the client itself.

    Attributes:
        id: Its own; `conversation` of its requests and votes.
        asked: Each prompt with its answers, in order.
        state: `ready`, `running`, `done` or `failed`.
        error: Why it could not begin, when `failed`.
        staging: What its models need of memory; empty before the first asking.
        votes: The rows of the votes cast here, in order.
    """

    """Makes what shows a comparison displayed bare; set by the layer that has widgets."""

    def __init__(
        self,
        client: WorkbenchClient,
        models: Iterable[str | Mapping[str, Any] | Contender],
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        think: bool | str | None = None,
        keep_alive: float | str | None = None,
        blind: bool = False,
        order_seed: int | None = None,
        schedule: Schedule = "memory",
        swap: bool = False,
        kind: str | None = None,
    ) -> None:
        super().__init__(
            client,
            models,
            system=system,
            config=GenerateConfig(options=options or {}, think=think, keep_alive=keep_alive),
            schedule=schedule,
            swap=swap,
            kind=kind,
        )
        self.blind = blind
        self.order_seed = secrets.randbits(32) if order_seed is None else order_seed
        self.votes: list[dict[str, Any]] = []
        self._revealed: set[int] = set()

    @classmethod
    def from_json(
        cls, client: WorkbenchClient, document: Document, *, kind: str | None = None
    ) -> Comparison:
        """Return the comparison of a document that `to_json` made, with its id and its votes.

        It can be read, voted on and asked again; nothing is sent until then.  The
        schedule and the consent to swaps are not in the document: they are the defaults.

        Args:
            client: The door to the server.
            document: JSON text, the same decoded, or the path of a file of it.
            kind: What asks, for the record.

        Raises:
            StoreError: When it cannot be read, or is no comparison.
            SchemaTooNew: When a newer version of the workbench wrote it.
        """
        found = read(document)
        one = cls(client, found.sides, blind=found.blind, order_seed=found.order_seed, kind=kind)
        one.id, one.created_at, one.asked = found.id, found.created_at, found.asked
        one.votes, one._revealed = found.votes, set(found.revealed)
        one.state = "done" if found.asked else "ready"
        return one

    def __repr__(self) -> str:
        names, count = ", ".join(self.names), len(self.asked)
        return f"<Comparison of {names}: {count} prompt{'' if count == 1 else 's'}, {self.state}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return bundle_of("comparison", self, repr, **kwargs)

    # --- what there is

    @property
    def prompts(self) -> list[str]:
        """The text of each prompt."""
        return [asked.text for asked in self.asked]

    @property
    def answers(self) -> list[dict[str, Answer]]:
        """For each prompt: name of a side to its answer."""
        return [dict(asked.answers) for asked in self.asked]

    def answer(self, prompt: int, name: str) -> Answer:
        """Return the newest answer of a side to a prompt; a negative index counts from the end.

        Raises:
            ConfigError: When there is none.
        """
        contender, asked = self.contender(name), self._asked(prompt)
        found = asked.answers.get(contender.name)
        if found is None:
            raise ConfigError(f"{name!r} was not asked prompt {asked.index}.", key="prompt")
        return found

    @property
    def revealed(self) -> list[int]:
        """Indexes of the prompts whose names were shown by `reveal`, in order."""
        return sorted(self._revealed)

    # --- asking

    def ask(
        self, prompts: Prompt | Iterable[Prompt], *, show: bool = False
    ) -> list[dict[str, Answer]]:
        """Ask every model every prompt and return the answers, prompt by prompt.

        An answer that failed is in its place with its `error`; the others go on.

        Args:
            prompts: A text, a `Message`, or a list of texts; a list of messages is one prompt only
                inside another list.
            show: Print each answer when it has ended, as plain text; blind ones at the end.

        Raises:
            ModelNotFound: When a model is not installed; nothing is sent then.
            ConfigError: When answers are still arriving, or a prompt is empty.
        """
        get_portal().refuse_here()
        return self._wait(lambda: self.begin(prompts), show=show)

    async def aask(self, prompts: Prompt | Iterable[Prompt]) -> list[dict[str, Answer]]:
        """Await what `ask` returns, on any event loop; cancelling it stops the answers."""
        future = self.begin(prompts)
        found = await get_portal().await_(future, on_cancel=self.stop)
        return [dict(self.asked[index].answers) for index in found]

    def retry(
        self, prompt: int | None = None, name: str | None = None, *, show: bool = False
    ) -> list[dict[str, Answer]]:
        """Ask again and return the answers; the former ones are kept in `asked[...].former`.

        Args:
            prompt: Index of a prompt; `None` takes all.
            name: A side; `None` takes all.  With neither, only what is missing, failed or was
                stopped is asked again.
            show: As of `ask`.
        """
        get_portal().refuse_here()
        return self._wait(lambda: self.begin_retry(prompt, name), show=show)

    async def aretry(
        self, prompt: int | None = None, name: str | None = None
    ) -> list[dict[str, Answer]]:
        """Await what `retry` returns."""
        future = self.begin_retry(prompt, name)
        found = await get_portal().await_(future, on_cancel=self.stop)
        return [dict(self.asked[index].answers) for index in found]

    def begin(self, prompts: Prompt | Iterable[Prompt]) -> PortalFuture[range]:
        """Begin what `ask` waits for, from any thread; the future has the indexes of the prompts.

        Raises:
            ConfigError: When answers are still arriving, or a prompt is empty.
        """
        if isinstance(prompts, str | Message):
            prompts = [prompts]
        listed = [as_prompt(item) for item in prompts]
        if not listed:
            raise ConfigError("there is nothing to ask.", key="prompts")
        return self._start(lambda: self._add(listed))

    def begin_retry(
        self, prompt: int | None = None, name: str | None = None
    ) -> PortalFuture[range]:
        """Begin what `retry` waits for, from any thread."""
        rows = self.asked if prompt is None else [self._asked(prompt)]
        sides = self.contenders if name is None else (self.contender(name),)
        everything = prompt is not None or name is not None

        def cells() -> list[Answer]:
            return [
                self._again(row, side)
                for row in rows
                for side in sides
                if everything or not _is_good(row.answers.get(side.name))
            ]

        return self._start(cells)

    def add(self, model: str | Mapping[str, Any] | Contender) -> Contender:
        """Add a side; `retry()` asks it the prompts it has not answered.

        Raises:
            ConfigError: When answers are arriving, or its name is taken.
        """
        with self._lock:
            self._idle()
            (new,) = contenders([model], system=self._system, config=self._config, taken=self.names)
            self.contenders = (*self.contenders, new)
            self._lanes[new.name] = LaneState()
        self._tell(ComparisonEvent("models", lane=new.name))
        return new

    def stop(self, name: str | None = None, *, reason: StopReason = "cancelled") -> None:
        """Stop the answers, or those of one side, from any thread; what came is kept."""
        if name is not None:
            self.contender(name)
        if self.busy:
            get_portal().loop.call_soon_threadsafe(self._stop, name, reason)

    def _wait(
        self, begin: Callable[[], PortalFuture[range]], *, show: bool
    ) -> list[dict[str, Answer]]:
        # Printed as they end, blind answers would tell by their order whose they are.
        relay: Relay[Answer] | None = Relay() if show and not self.blind else None
        unobserve = self.observe(_pusher(relay)) if relay is not None else lambda: None
        try:
            future = begin()
            if relay is not None:
                future.add_done_callback(lambda _: relay.close())
                try:
                    while ended := relay.take():
                        for answer in ended:
                            _print(answer.lane, answer)
                except KeyboardInterrupt:
                    self.stop(reason="interrupted")
            found = get_portal().wait(future, on_interrupt=lambda: self.stop(reason="interrupted"))
        except KeyboardInterrupt:
            # It may have fallen before the wait, which would have stopped it.
            self.stop(reason="interrupted")
            raise
        finally:
            unobserve()
        if show and relay is None:
            for index in found:
                for name, answer in self.shown(index):
                    _print(name, answer)
        return [dict(self.asked[index].answers) for index in found]

    # --- voting

    def sides(self, prompt: int) -> tuple[str, ...]:
        """Return the names of the sides from left to right, as they are shown for a prompt.

        Blind, they are shuffled anew for each prompt, by `order_seed`.
        """
        names = list(self.names)
        if self.blind:
            random.Random(f"{self.order_seed}:{self._asked(prompt).index}").shuffle(names)
        return tuple(names)

    def hidden(self, prompt: int) -> bool:
        """Whether names, order and speed are hidden for a prompt.

        Blind, they are until every two answers to it that can be judged have been voted on, or
        until `reveal`.
        """
        asked = self._asked(prompt)
        if not self.blind or asked.index in self._revealed:
            return False
        names = sorted(a.lane for a in asked.answers.values() if a.can_be_judged)
        voted = {
            frozenset((vote["label_a"], vote["label_b"]))
            for vote in self.votes
            if vote["turn"] == asked.index
        }
        return len(names) < 2 or any(
            frozenset(pair) not in voted for pair in itertools.combinations(names, 2)
        )

    def shown(self, prompt: int) -> list[tuple[str, Answer]]:
        """Return what each answer to a prompt is called where it is shown, and the answer.

        Where names are hidden they are letters.
        """
        asked = self._asked(prompt)
        sides = [name for name in self.sides(asked.index) if name in asked.answers]
        hidden = self.hidden(asked.index)
        return [
            (f"Answer {_letter(index)}" if hidden else name, asked.answers[name])
            for index, name in enumerate(sides)
        ]

    def reveal(self, prompt: int | None = None) -> None:
        """Show the names for a prompt, or for all; later votes on it do not count as blind."""
        rows = self.asked if prompt is None else [self._asked(prompt)]
        self._revealed.update(asked.index for asked in rows)
        for asked in rows:
            self._tell(ComparisonEvent("prompt", prompt=asked.index))

    def vote(
        self, prompt: int, a: str, b: str, verdict: Verdict, *, voter: str | None = None
    ) -> dict[str, Any]:
        """Record which of two answers is better, and return the row of `votes`.

        A second vote of one person on the same answers takes the place of the first.

        Args:
            prompt: Index of the prompt.
            a: Name of a side.
            b: Name of another.
            verdict: `a`, `b`, `tie` or `both_bad`.
            voter: Who votes; the user of this machine unless given.

        Raises:
            ConfigError: When there is nothing to judge, or no such verdict.
            StoreError: When the row could not be written; the vote counts in this comparison.
        """
        row = self._vote(self._asked(prompt), a, b, verdict, voter or this_user())
        former = next((one for one in self.votes if _same_vote(one, row)), None)
        if former is not None:
            self.votes.remove(former)
        row = {"id": sortable_id() if former is None else former["id"], **row}
        records = self.client.records
        kept = records is None or get_portal().run(_written(records, row))
        self.votes.append(row)
        self._tell(ComparisonEvent("vote", prompt=row["turn"], vote=row))
        if not kept:
            raise StoreError(
                "the vote is in this comparison only: it could not be written to the metrics.",
                hint="Is the disk full, or the server a plain Ollama? to_json() has the votes.",
            )
        return row

    async def avote(
        self, prompt: int, a: str, b: str, verdict: Verdict, *, voter: str | None = None
    ) -> dict[str, Any]:
        """Await what `vote` returns."""
        return await asyncio.to_thread(self.vote, prompt, a, b, verdict, voter=voter)

    def _vote(self, asked: Asked, a: str, b: str, verdict: Verdict, voter: Any) -> dict[str, Any]:
        if verdict not in VERDICTS:
            hint = f"One of {', '.join(VERDICTS)}."
            raise ConfigError(f"no verdict {verdict!r}.", key="verdict", hint=hint)
        if a == b:
            raise ConfigError("a vote needs two sides.", key="models")
        if not isinstance(voter, str):
            raise ConfigError(f"voter is {voter!r}.", key="voter", hint="Write it as a text.")
        pair = [self.answer(asked.index, a), self.answer(asked.index, b)]
        for answer in pair:
            if not answer.can_be_judged:
                raise ConfigError(
                    f"there is no whole answer of {answer.lane!r} to judge.", key="models"
                )
        # The same two are always a and b in the same way: the order shown is a column of its own.
        if self.names.index(a) > self.names.index(b):
            pair.reverse()
            verdict = {"a": "b", "b": "a"}.get(verdict, verdict)  # type: ignore[assignment]
        first = next(name for name in self.sides(asked.index) if name in (a, b))
        row = vote_row(
            asked,
            pair[0],
            pair[1],
            verdict,
            first=first,
            seed=self.order_seed,
            blind=self.hidden(asked.index),
            voter=voter,
        )
        return {"conversation": self.id, "ts": utc_now(), **row}

    # --- other forms

    def to_frame(self) -> pd.DataFrame:
        """Return one row per answer with the columns of `compare_export.COLUMNS`, in order."""
        return export.to_frame(self)

    def to_markdown(self) -> str:
        """Return the prompts, answers and figures as markdown text.

        A model's text stands in it as it came; show it only where markdown is sanitised.
        """
        return export.to_markdown(self)

    def to_json(self) -> str:
        """Return one JSON document with every attempt, its parameters, digests and figures."""
        return export.to_json(self)

    def to_notebook(self) -> NotebookNode:
        """Return a notebook that asks the same again, with the answers as plain outputs."""
        return export.to_notebook(self)


def _is_good(answer: Answer | None) -> bool:
    return answer is not None and answer.status == "done"


def _same_vote(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    keys = ("turn", "label_a", "label_b", "request_id_a", "request_id_b", "voter")
    return all(one.get(key) == other.get(key) for key in keys)


async def _written(records: Records, row: Mapping[str, Any]) -> bool:
    return records.write("votes", row)


def this_user() -> str:
    """Return the name of this machine's user, who votes unless somebody else is named."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without an entry, as in some containers.
        return "unknown"


def _pusher(relay: Relay[Answer]) -> Listener:
    def push(event: ComparisonEvent) -> None:
        if event.kind == "answer" and event.answer is not None and event.answer.ended:
            relay.push([event.answer])

    return push


def _print(name: str, answer: Answer) -> None:
    # Through sys.stdout at call time: in a kernel it belongs to the cell that runs.
    printer = PlainPrinter(lambda text: print(text, end=""))
    printer.line(f"{name}, prompt {answer.prompt}")
    printer.feed([TextDelta(answer.text)])
    if answer.error is not None:
        printer.feed([Failed(answer.error)])
    elif answer.generation is not None:
        printer.feed([Finished(answer.generation.stop_reason)])


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index + 1)
