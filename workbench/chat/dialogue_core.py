"""The async core of a dialogue: who speaks, what is recorded, and what a person may do meanwhile.

Everything changes on the portal's loop; a person's controls are carried there from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import msgspec

from workbench.chat.dialogue_log import DialogueTranscript, Record
from workbench.chat.dialogue_setup import Setup
from workbench.chat.dialogue_values import (
    Aside,
    AsideKind,
    DialogueEvent,
    LaneState,
    State,
    Turn,
    View,
)
from workbench.chat.exchange import Request
from workbench.chat.judge import Choice, Judge, aask_judge, choose
from workbench.chat.orders import (
    ORDERS,
    Call,
    Moderator,
    calls_of,
    candidates,
    moderator_messages,
    next_calls,
    next_in_turn,
    said_so_far,
)
from workbench.chat.participants import Participant
from workbench.chat.recollection import Minutes, memory_key
from workbench.chat.runners import Runner, by_runner, full_name
from workbench.chat.speaking import Placed, Speaking
from workbench.chat.staging import Stage, Staging, planned_loads
from workbench.chat.stops import GoalReached, JudgeSays, StopRule
from workbench.chat.store import ChatLog
from workbench.chat.window import TokenMeter
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, WorkbenchError
from workbench.portal import PortalFuture, get_portal
from workbench.units import sortable_id

log = logging.getLogger("workbench")

Observer = Callable[[DialogueEvent], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a dialogue is to end, and how the turn that is being said."""

    reason: str
    status: str = "cancelled"


class Core:
    """A transcript, its file, and the loop that continues it.

    Args:
        log: `None` keeps the dialogue in memory only.
    """

    def __init__(
        self,
        client: WorkbenchClient,
        setup: Setup,
        transcript: DialogueTranscript,
        *,
        log: ChatLog | None = None,
    ) -> None:
        self.client = client
        self.setup = setup
        self.transcript = transcript
        self.log = log
        self.stage = Stage(client, holder=f"dialogue {transcript.id}")
        self.lanes: dict[str, LaneState] = {item.name: LaneState() for item in setup.cast}
        self.observers: list[Observer] = []
        self.future: PortalFuture[None] | None = None
        self.error: WorkbenchError | None = None
        self.failures: dict[str, WorkbenchError] = {}
        self.ending: Ending | None = None
        self.pausing = False
        self.consenting = False
        self.speaking: dict[str, Speaking] = {}
        self.approvals: dict[str, tuple[bool, str | None]] = {}
        self.waiting_for: str | None = None
        self.summing = asyncio.Lock()
        self._bell = asyncio.Event()
        self._aside: asyncio.Task[Any] | None = None
        self._meters: dict[str, TokenMeter] = {}
        self._prepared = False
        self._judged_at = -1
        self._ran_s = 0.0
        self._since: float | None = None

    # --- recording

    def change(self, record: Record, *, flush: bool = True) -> None:
        """Record what was done to the transcript."""
        if self.log is not None:
            self.log.append(record, flush=flush)

    def emit(self, event: DialogueEvent) -> None:
        """Tell everybody who observes."""
        for observer in tuple(self.observers):
            try:
                observer(event)
            except Exception:
                # A view that is broken must not end what it shows.
                log.exception("an observer of dialogue %s failed", self.transcript.id)

    def tell_turn(self, turn_id: str) -> None:
        """Tell that a turn began, ended or was changed."""
        turn = self.transcript.turn(turn_id)
        self.emit(DialogueEvent("turn", turn=turn, lane=turn.speaker))

    def become(self, state: State, reason: str = "") -> None:
        """Set the state, record it and tell it."""
        now = time.monotonic()
        if self._since is not None:
            self._ran_s += now - self._since
        self._since = now if state == "running" else None
        self.change(self.transcript.become(state, reason))
        self.emit(DialogueEvent("state"))

    def note(self, aside: Aside) -> None:
        """Record a side request and tell it."""
        self.change(self.transcript.aside(aside))
        self.emit(DialogueEvent("aside", aside=aside))

    def set_lane(self, name: str, lane: LaneState) -> None:
        """Set what somebody's model does; tells it when the phase is another one."""
        before = self.lanes.get(name, LaneState())
        self.lanes[name] = lane
        if (before.phase, before.turn, before.detail) != (lane.phase, lane.turn, lane.detail):
            self.emit(DialogueEvent("lane", lane=name))

    def ring(self) -> None:
        """Let what waits look again."""
        self._bell.set()

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait until something is so, or the dialogue is to end."""
        while self.ending is None and not there():
            self._bell.clear()
            await self._bell.wait()

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for a request between turns; `None` when the dialogue is ended meanwhile."""
        task: asyncio.Task[T] = asyncio.create_task(work)
        self._aside = task
        try:
            return await task
        except asyncio.CancelledError:
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise
            return None
        finally:
            self._aside = None

    # --- what others ask of it

    @property
    def elapsed_s(self) -> float:
        """Seconds it has run, pauses left out."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return self._ran_s + running

    def view(self) -> View:
        """Return the dialogue as orders and rules see it."""
        muted = self.transcript.muted
        active = tuple(item.name for item in self.setup.cast if item.name not in muted)
        return View(
            tuple(self.transcript.turns),
            self.setup.cast,
            active,
            self.setup.opening,
            self.elapsed_s,
            self.setup.turns,
        )

    def meter(self, model: str) -> TokenMeter:
        """Return what estimates the tokens of a model; it learns from each answer."""
        if model not in self._meters:
            need = self.stage.staging.need(model)
            # The bundled models have one token per byte.
            self._meters[model] = TokenMeter(1.0) if need and need.toy else TokenMeter()
        return self._meters[model]

    def digest(self, model: str) -> str | None:
        """Return the digest of a model as the survey found it."""
        need = self.stage.staging.need(model)
        return None if need is None else need.digest

    def context_tokens(self, model: str, num_ctx: object) -> int | None:
        """Return the context a model is asked with; `None` when nobody says."""
        if isinstance(num_ctx, int) and num_ctx > 0:
            return num_ctx
        need = self.stage.staging.need(model)
        return None if need is None else need.context

    def minutes(self, participant: Participant) -> Minutes:
        """Return the summary of what a participant heard."""
        found = self.transcript.minutes(memory_key(participant))
        return Minutes() if found is None else Minutes(found.value, found.upto)

    def context(self, speaker: str, turn: int) -> dict[str, object]:
        """Return what a request tells about itself."""
        return {"conversation": self.transcript.id, "turn": turn, "speaker": speaker}

    def aside_of(
        self, kind: AsideKind, model: str, choice: Choice, *, digest: str | None = None
    ) -> Aside:
        """Return one attempt at a choice as it is recorded."""
        generation = choice.generation
        return Aside(
            kind,
            self.transcript.next_index,
            generation.model or model,
            sortable_id(),
            text=generation.text,
            value=choice.value,
            digest=digest or self.digest(model),
            request_id=generation.request_id,
            config=choice.config,
            messages_sha=choice.messages_sha,
            attempt=choice.attempt,
        )

    # --- running

    def start(self) -> PortalFuture[None]:
        """Begin or go on in the background; from any thread."""
        if not isinstance(self.setup.order, str) or self.setup.order in ORDERS:
            self.ending, self.error, self.pausing = None, None, False
            future = self.future = get_portal().future()
            try:
                future.begin(self._run())
            except KeyboardInterrupt:
                if not future.cancel():  # it was not handed over
                    self.future = None
                raise
            return future
        raise ConfigError(
            f"the order of this dialogue was a {self.setup.order}, which is not kept on disk.",
            key="order",
            hint="Open it with order=...",
        )

    async def _run(self) -> None:
        try:
            self.become("running")
            await self.prepare()
            await self._loop()
        except WorkbenchError as exc:
            self.error = exc
            self.become("failed", f"{type(exc).__name__}: {exc.message}")
        except asyncio.CancelledError:
            # The portal closes with its process; whoever opens the file can go on.
            self.become("paused", "interrupted")
            raise
        finally:
            await self.stage.close()

    async def prepare(self) -> Staging:
        """Ask what memory the dialogue needs, once; before its first request."""
        if self._prepared:
            return self.stage.staging
        staging = await self.stage.survey(self.setup.wanted())
        loaded = [need.model for need in staging.needs if need.loaded]
        planned = self.setup.planned_runners(loaded=loaded)
        known = staging.together is not None and all(n.loaded is not None for n in staging.needs)
        if planned is not None and known:
            loads = planned_loads(planned, loaded=loaded, together=bool(staging.together))
            times = [self.stage.swap_s(self._asked_as(runner)) for runner in loads]
            total = None if None in times else sum(time or 0.0 for time in times)
            staging = replace(staging, loads=len(loads), swap_s=total)
        self.stage.staging = staging
        self._prepared = True
        self.change(self.transcript.stage(as_json(staging)), flush=False)
        self.emit(DialogueEvent("plan"))
        return staging

    def unprepare(self) -> None:
        """Ask anew what memory is needed, before the next start."""
        self._prepared = False

    def _asked_as(self, runner: Runner) -> str:
        """Return the name by which the setup asks for a model."""
        names = [need.model for need in self.stage.staging.needs]
        return next((name for name in names if full_name(name) == runner.model), runner.model)

    async def _loop(self) -> None:
        while True:
            await self._gate()
            reason = self.ending.reason if self.ending else await self._why_stop()
            if reason:
                self.become("done", reason)
                return
            self._say_answers()
            placed = await self._next()
            if self.ending is not None:
                continue
            if not placed:
                self.become("done", "nobody is left to speak")
                return
            failed = await self._step(placed)
            if failed is not None and self.ending is None:
                self.become("failed", f"the turn of {failed.speaker} failed")
                return

    async def _gate(self) -> None:
        if self.pausing and self.ending is None:
            self.become("paused")
            await self.stage.close()
            await self.until(lambda: not self.pausing)
            if self.ending is None:
                self.become("running")

    # --- whether it ends

    async def _why_stop(self) -> str | None:
        view = self.view()
        for rule in self.setup.rules:
            if isinstance(rule, JudgeSays | GoalReached):
                continue
            check = getattr(rule, "check", None)
            found = check(view) if check is not None else await self._call(rule, view)
            if found:
                return str(found)
        said = [turn for turn in view.turns if not turn.human and turn.status == "done"]
        count = 2 * len(view.active)
        if len(said) >= count and not any(turn.text.strip() for turn in said[-count:]):
            return "nobody has anything to say"
        return await self._judged(view)

    async def _call(self, rule: StopRule, view: View) -> str | None:
        name = getattr(rule, "__qualname__", type(rule).__name__)
        assert callable(rule)
        try:
            found = await asyncio.to_thread(rule, view)
        except Exception as exc:
            raise ConfigError(f"the stop rule {name} raised {exc!r}.", key="stop") from exc
        return (found if isinstance(found, str) else f"{name} said so") if found else None

    async def _judged(self, view: View) -> str | None:
        judge, count = self.setup.judge, len(view.spoken)
        if judge is None or count == self._judged_at:
            return None
        for rule in self.setup.stop:
            if not isinstance(rule, JudgeSays | GoalReached) or not rule.due(view):
                continue
            choices = await self._unless_ended(self._ask_judge(judge, view, rule.question))
            if choices is None:
                return self.ending.reason if self.ending else None
            for choice in choices:
                self.note(self.aside_of("stop", judge.model, choice))
            if choices[-1].value == "yes":
                return rule.reason(judge.model)
        self._judged_at = count
        return None

    async def _ask_judge(self, judge: Judge, view: View, question: str) -> list[Choice]:
        await self.stage.before(judge.model, judge.options)
        index = self.transcript.next_index
        return await aask_judge(
            self.client,
            judge,
            (said_so_far(view), question),
            context=self.context("judge", index),
            seed=self.setup.seed_of(index),
            meter=self.meter(judge.model),
            context_tokens=self.context_tokens(judge.model, judge.options.get("num_ctx")),
            recover=self.stage.recover,
        )

    # --- who speaks

    async def _next(self) -> list[Placed]:
        muted = self.transcript.muted
        pending = [Placed(**item) for item in self.transcript.pending()]
        if pending := [placed for placed in pending if placed.speaker not in muted]:
            return pending
        view, picked = self.view(), "order"
        if not view.active:
            return []
        order = self.setup.order
        if not isinstance(order, str):
            try:
                answer = await asyncio.to_thread(order, view)
            except Exception as exc:
                raise ConfigError(f"the order raised {exc!r}.", key="order") from exc
            calls = calls_of(answer, view)
        elif order == "moderated":
            name, picked = await self._moderated(view)
            calls = [Call(name)] if name else []
        else:
            calls = next_calls(order, view)
        if self.setup.turns is not None:
            calls = calls[: max(0, self.setup.turns - len(view.spoken))]
        return self._placed(calls, picked)

    def _placed(self, calls: list[Call], picked: Any) -> list[Placed]:
        index, number = self.transcript.next_index, self.transcript.next_round
        placed = [
            Placed(index + place, call.speaker, number, call.note, picked)
            for place, call in enumerate(calls)
        ]
        if placed:
            self.change(self.transcript.step([asdict(item) for item in placed]), flush=False)
        return placed

    async def _moderated(self, view: View) -> tuple[str, str]:
        names, moderator = candidates(view), self.setup.moderator
        if len(names) == 1 or moderator is None:
            return names[0], "order"
        choices = await self._unless_ended(self._ask_moderator(moderator, view, names))
        if choices is None:
            return "", "order"
        for choice in choices:
            self.note(self.aside_of("moderator", moderator.model, choice))
        found = choices[-1].value
        return (found, "moderator") if found else (next_in_turn(view), "fallback")

    async def _ask_moderator(
        self, moderator: Moderator, view: View, names: list[str]
    ) -> list[Choice]:
        await self.stage.before(moderator.model, moderator.options)
        index = self.transcript.next_index
        request = Request(
            moderator.model,
            moderator_messages(moderator, view, names),
            moderator.config(names, seed=self.setup.seed_of(index)),
            self.context("moderator", index),
            self.context_tokens(moderator.model, moderator.options.get("num_ctx")),
        )
        return await choose(
            self.client,
            request,
            tuple(names),
            meter=self.meter(moderator.model),
            recover=self.stage.recover,
        )

    # --- the turns of one step

    async def _step(self, placed: list[Placed]) -> Turn | None:
        """Take the turns of a step; returns the first that failed."""
        setup = self.setup
        one_by_one = setup.schedule == "sequential" or setup.human == "approve"
        if len(placed) == 1 or one_by_one:
            return await self._in_turn([placed])
        if setup.schedule == "parallel":
            return await self._at_once([[item] for item in placed])
        models = {setup.participant(item.speaker).model for item in placed}
        loaded = [name for name in models if await self.stage.is_loaded(name)]
        groups = by_runner(placed, lambda item: setup.runner(item.speaker), loaded=loaded)
        # A model with other options is loaded anew: such groups are never in memory together.
        apart = len({full_name(name) for name in models}) < len(groups)
        if self.stage.staging.together and not apart:
            return await self._at_once(groups)
        return await self._in_turn(groups)

    async def _in_turn(self, groups: list[list[Placed]]) -> Turn | None:
        for item in (item for group in groups for item in group):
            if self.ending is not None:
                return None
            turn = await self._speak(item)
            if turn.status == "failed":
                return turn
        return None

    async def _at_once(self, groups: list[list[Placed]]) -> Turn | None:
        found = await asyncio.gather(*(self._in_turn([group]) for group in groups))
        return next((turn for turn in found if turn is not None), None)

    async def _speak(self, placed: Placed) -> Turn:
        speaking = Speaking(self, placed)
        self.speaking[speaking.turn_id] = speaking
        speaking.task = asyncio.create_task(speaking.run())
        try:
            await asyncio.shield(speaking.task)
        except asyncio.CancelledError:
            speaking.stop("interrupted")
            with contextlib.suppress(asyncio.CancelledError):
                await speaking.task
            raise
        finally:
            self.speaking.pop(speaking.turn_id, None)
        turn = self.transcript.turn(speaking.turn_id)
        if self.setup.human == "approve" and turn.status == "done" and self.ending is None:
            turn = await self._approved(turn)
        return turn

    # --- a person's part

    async def _approved(self, turn: Turn) -> Turn:
        approval = self._answer_to(turn)
        if approval is None:
            self.waiting_for = turn.id
            self.become("waiting", f"for an answer to the turn of {turn.speaker}")
            await self.until(lambda: turn.id in self.approvals)
            self.waiting_for = None
            approval = self.approvals.pop(turn.id, (True, None))
            self.become("running")
        yes, text = approval
        if not yes:
            turn = replace(turn, status="skipped")
        elif text is not None and text != turn.text:
            turn = replace(turn, text=text, original=turn.text)
        else:
            return turn
        self.change(self.transcript.change(turn))
        self.tell_turn(turn.id)
        return turn

    def _answer_to(self, turn: Turn) -> tuple[bool, str | None] | None:
        answers = self.setup.answers
        if answers is None:
            return None
        number = sum(1 for item in self.view().spoken if item.index < turn.index)
        found = answers.approval(number)
        if found is None and self.setup.unattended:
            raise ConfigError(f"the answers have none to turn {number}.", key="answers")
        return found

    def _say_answers(self) -> None:
        if self.setup.answers is None or self.transcript.pending():
            return
        number = len(self.view().spoken)
        turns = self.transcript.turns
        last = max((turn.index for turn in turns if not turn.human), default=-1)
        said = [(turn.speaker, turn.text) for turn in turns if turn.index > last]
        for place, speaker, text in self.setup.answers.said:
            if place == number and (speaker, text) not in said:
                self.say(text, speaker)

    def say(self, text: str, speaker: str) -> Turn:
        """Add what a person says; the next turn hears it."""
        turn = Turn(
            self.transcript.next_index,
            speaker,
            sortable_id(),
            text=text,
            status="done",
            round=self.transcript.next_round - 1,
            picked="person",
        )
        self.change(self.transcript.add(turn))
        self.tell_turn(turn.id)
        return turn

    def stop(self, ending: Ending, reason: Any = "cancelled") -> None:
        """End the dialogue, and with it the turns being said and what is asked between them."""
        if self.ending is None:
            self.ending = ending
        if self._aside is not None:
            self._aside.cancel()
        for speaking in list(self.speaking.values()):
            speaking.stop(reason)
        self.ring()

    def failed_turn(self) -> Turn | None:
        """Return the turn whose failure the dialogue stands at, or `None`."""
        return next((t for t in reversed(self.transcript.turns) if t.status == "failed"), None)


def as_json(value: object) -> Record:
    """Return a value as the JSON object that is kept of it."""
    found: Record = msgspec.json.decode(msgspec.json.encode(value))
    return found


def on_portal(work: Callable[[], T]) -> T:
    """Do something on the portal's thread and return what it returns, from any thread."""
    portal = get_portal()
    if portal.here:
        return work()

    async def there() -> T:
        return work()

    return portal.run(there())
