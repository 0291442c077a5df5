"""`ComparePanel`: prompts to several models side by side, live, with blind votes and a ranking.

What the panel knows is touched on the portal's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workbench.chat.compare import Comparison, this_user
from workbench.chat.compare_run import Schedule
from workbench.chat.compare_values import Asked, ComparisonEvent, Contender
from workbench.chat.staging import Staging, survey, wanted_models
from workbench.client.api import WorkbenchClient
from workbench.client.values import ModelInfo
from workbench.errors import WorkbenchError
from workbench.portal import get_portal
from workbench.widgets import compare_actions, compare_picture, presets
from workbench.widgets.actions import STATIC
from workbench.widgets.comm import connect_view, live_bundle
from workbench.widgets.compare_plan import plan_of
from workbench.widgets.compare_static import static_bundle
from workbench.widgets.headless import (
    is_headless,
    kernel_version,
    stop_works_while_busy,
)
from workbench.widgets.lanes import PROTOCOL, Action, LaneViews, lane_status
from workbench.widgets.snapshot import EXAMPLES

if TYPE_CHECKING:
    from workbench.evals.ranking import Ranking

MIME = "application/vnd.workbench.chat+json"
DRAFT = "draft"
"""The `cid` of a panel in which nothing was asked yet."""

# What lanes do elsewhere than in the prompt that is shown is told this often.
ELSEWHERE_S = 0.5

Rankings = Callable[[], "Ranking"]


class CompareView(anywidget.AnyWidget):
    """The widget of a `ComparePanel`; it only carries messages.

    Attributes:
        comparison: Id of the comparison that is shown; saved with the widget (str).
    """

    _esm = STATIC / "compare.js"
    _css = STATIC / "compare.css"

    comparison = traitlets.Unicode("").tag(sync=True)


class ComparePanel:
    """A comparison in the notebook; `wb.compare_panel()` makes one, a bare `Comparison` shows one.

    Where nobody can look (papermill, nbclient, nbval) it is displayed as a static table, and no
    widget is made.

    Args:
        client: The door to the server.
        sides: Who is compared; without any, two models are proposed.
        comparison: One to show and to go on with.
        blind: Whether names, order and speed are hidden until a vote.
        schedule: `memory` or `sequential`; see `Comparison`.
        order_seed: Of the order in which blind answers are shown.
        voter: Who votes; the user of this machine unless given.
        rankings: Ranks all votes in the metrics; without it only those of this panel are ranked.
        data_dir: Where presets of parameters are.

    Attributes:
        comparison: The one that is shown; `None` before the first prompt.
        comparisons: All that were begun in this panel, in order.
        shown: Index of the prompt that is shown.
        pair: The two answers that are judged, by their places from the left.
    """

    def __init__(
        self,
        client: WorkbenchClient,
        sides: Iterable[Contender] = (),
        *,
        comparison: Comparison | None = None,
        blind: bool = False,
        schedule: Schedule = "memory",
        order_seed: int | None = None,
        voter: str | None = None,
        rankings: Rankings | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self.client = client
        self.sides = list(comparison.contenders if comparison is not None else sides)
        self.blind = comparison.blind if comparison is not None else blind
        self.schedule: Schedule = comparison.schedule if comparison is not None else schedule
        self.order_seed = order_seed
        self.voter = voter or this_user()
        self.data_dir = data_dir
        self.all_rankings = rankings
        self.comparison: Comparison | None = None
        self.comparisons: list[Comparison] = []
        self.shown = 0
        self.pair: compare_picture.Pair | None = None
        self.models: Sequence[ModelInfo] = ()
        self.problem: dict[str, Any] | None = None
        self.unasked: list[str] = []
        self.scope = "here"
        self.ranking: dict[str, Any] | None = None
        self.ranking_open = False
        self._proposed = not self.sides
        self._staging = Staging()
        self._unobserve: Callable[[], None] = lambda: None
        self._stages: dict[int, str] = {}
        self._writing: set[str] = set()
        self._elsewhere: asyncio.TimerHandle | None = None
        self._view: CompareView | None = None
        self._portal = get_portal()
        self._actions = {n: self._bound(act) for n, act in compare_actions.ACTIONS.items()}
        self.views = LaneViews(
            self._portal,
            picture=self.state,
            send=self.send,
            static=self._kept,
            came=self._came,
        )
        if comparison is not None:
            self.show(comparison)

    def __repr__(self) -> str:
        return f"<ComparePanel of {self.comparison or 'nothing asked yet'}>"

    # --- where it is shown

    @property
    def widget(self) -> CompareView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            cid = "" if self.comparison is None else self.comparison.id
            self._view = CompareView(comparison=cid)
            connect_view(self._view, self._handle, self._portal)
        return self._view

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to every view; nothing is sent where there is no widget."""
        if self._view is not None:
            self._view.send(dict(content), list(buffers))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_headless():
            return self.static_bundle()
        cid = "" if self.comparison is None else self.comparison.id
        saved = {MIME: {"v": PROTOCOL, "comparison": cid}}
        return live_bundle(self.widget, self.static_bundle(), saved, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Return what was asked as a mime bundle without a widget: safe HTML and plain text."""
        return static_bundle(self.comparison, [side.name for side in self.sides])

    def _kept(self) -> dict[str, Any]:
        nothing = self.comparison is None or not self.comparison.asked
        return {} if nothing else self.static_bundle()

    def close(self) -> None:
        """Take the view away; the comparison stays, and what it asks goes on."""
        self._unobserve()
        if self._view is not None:
            self._view.close()
            self._view = None

    # --- from the view

    def _handle(self, message: dict[str, Any], data: bytes) -> None:
        if not self.views.take(message):
            self.views.act(self._actions, message, data)

    def _bound(self, action: compare_actions.Action) -> Action:
        async def act(message: dict[str, Any], data: bytes) -> None:
            await action(self, message, data)

        return act

    def _came(self) -> None:
        self._join_live()
        self.views.spawn(self.refresh_models())

    # --- the comparison

    def show(self, comparison: Comparison) -> None:
        """Show a comparison, from any thread; the one before goes on behind it."""
        self._unobserve()
        self.comparison = comparison
        if comparison not in self.comparisons:
            self.comparisons.append(comparison)
        self.shown, self.pair = 0, None
        self._stages.clear()
        self.sides, self.blind = list(comparison.contenders), comparison.blind
        self.schedule, self._proposed = comparison.schedule, False
        self._unobserve = comparison.observe(self._observe)
        if self._view is not None:
            self._view.comparison = comparison.id
        if self._portal.here:
            self.views.end_all()
            self._join_live()
            self.views.changed()

    @property
    def asked(self) -> Asked | None:
        """The prompt that is shown, with its answers."""
        if self.comparison is None or not 0 <= self.shown < len(self.comparison.asked):
            return None
        return self.comparison.asked[self.shown]

    @property
    def changed(self) -> bool:
        """Whether the next run begins a new comparison: with other sides than the one shown."""
        comparison = self.comparison
        if comparison is None:
            return True
        return tuple(self.sides) != comparison.contenders or self.schedule != comparison.schedule

    def begin(self, prompts: Sequence[str]) -> asyncio.Future[Any]:
        """Ask prompts, in a new comparison when the sides have changed; the future has its end.

        Raises:
            ConfigError: When there is nothing to ask, or answers are still arriving.
        """
        if self.changed or self.comparison is None:
            comparison = Comparison(
                self.client,
                self.sides,
                blind=self.blind,
                schedule=self.schedule,
                order_seed=self.order_seed,
                kind="widget",
            )
            future = comparison.begin(prompts)
            self.show(comparison)
        else:
            comparison = self.comparison
            future = comparison.begin(prompts)
            self.shown, self.pair = len(comparison.asked), None
        self.problem, self.unasked = None, []
        self.views.changed()
        return asyncio.wrap_future(future)

    def reset(self) -> None:
        """Forget what was said of the prompts: who votes or what is hidden has changed."""
        self._stages.clear()
        self.goto(self.shown)

    def goto(self, prompt: int) -> None:
        """Show another prompt."""
        count = 0 if self.comparison is None else len(self.comparison.asked)
        self.shown, self.pair = max(0, min(prompt, count - 1)), None
        self.views.end_all()
        self._join_live()
        self.views.changed()

    @property
    def hiding(self) -> bool:
        """Whether the names for a prompt are hidden: then nothing tells what a model does now."""
        comparison = self.comparison
        if comparison is None or not comparison.blind:
            return False
        return any(comparison.hidden(asked.index) for asked in reversed(comparison.asked))

    def set_sides(self, sides: Sequence[Contender]) -> None:
        """Choose who is asked next."""
        self.sides, self._proposed, self.problem = list(sides), False, None
        self.views.changed()
        self.views.spawn(self._survey())

    # --- from the comparison

    def _observe(self, event: ComparisonEvent) -> None:
        if self._portal.here:
            self._take(event)
        else:
            with contextlib.suppress(RuntimeError):
                self._portal.loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: ComparisonEvent) -> None:
        if event.kind == "state":
            self._stages.clear()
        elif event.prompt is not None and event.kind != "events":
            self._stages.pop(event.prompt, None)
        if event.kind == "events" and event.answer is not None:
            self._arrived(event)
        elif event.kind == "lane" and event.figures is not None:
            self._lane(event)
        elif event.kind == "answer" and event.answer is not None:
            self._answer(event)
        else:
            if event.kind == "models" and self.comparison is not None:
                self.sides = list(self.comparison.contenders)
            if event.kind == "vote" and self.ranking_open:
                self.views.spawn(self.rank())
            if event.kind == "state":
                self.views.spawn(self.refresh_models())
            self.views.changed()
            self.views.keep_soon()

    def _arrived(self, event: ComparisonEvent) -> None:
        assert event.answer is not None
        mid = self._live_mid(event.prompt, event.lane)
        if mid in self.views.live:
            self.views.feed(str(mid), event.events)
        elif mid is not None and not event.answer.ended:
            # What arrived now is in the answer already.
            self.views.begin(mid, text=event.answer.text, thinking=event.answer.thinking)
            self.views.changed()

    def _lane(self, event: ComparisonEvent) -> None:
        assert event.figures is not None
        writes = event.figures.phase in ("thinking", "writing")
        if writes and event.lane not in self._writing:
            # The model is in memory now, and others may have left it.
            self.views.spawn(self.refresh_models())
        (self._writing.add if writes else self._writing.discard)(str(event.lane))
        mid = self._live_mid(event.figures.turn, event.lane)
        if mid is not None and mid in self.views.live:
            self.views.status(mid, lane_status(event.figures))
        elif self._elsewhere is None:
            self._elsewhere = self._portal.loop.call_later(ELSEWHERE_S, self._tell_elsewhere)

    def _tell_elsewhere(self) -> None:
        self._elsewhere = None
        self.views.changed()

    def _answer(self, event: ComparisonEvent) -> None:
        assert event.answer is not None
        mid = self._live_mid(event.prompt, event.lane)
        if mid is not None and event.answer.ended:
            self.views.end(mid)
        elif mid is not None:
            self.views.begin(mid)
        self.views.changed()
        self.views.keep_soon()

    def _live_mid(self, prompt: int | None, name: str | None) -> str | None:
        """Return the address of an answer whose words may be shown as they come."""
        comparison, asked = self.comparison, self.asked
        if comparison is None or asked is None or prompt != asked.index or name is None:
            return None
        if name not in asked.answers or comparison.hidden(asked.index):
            return None
        return compare_picture.mid_of(comparison, asked, comparison.sides(asked.index).index(name))

    def _join_live(self) -> None:
        """Take up answers of the shown prompt that were on their way before."""
        asked = self.asked
        for name, answer in asked.answers.items() if asked is not None else ():
            mid = self._live_mid(asked.index if asked is not None else None, name)
            if mid is not None and answer.status == "writing":
                self.views.begin(mid, text=answer.text, thinking=answer.thinking)

    # --- what the server knows

    async def refresh_models(self) -> None:
        """Ask the server for its models; when it cannot be reached the old list stays."""
        try:
            self.models = await self.client.models()
        except WorkbenchError as exc:
            self.views.notice("warn", exc.message, hint=exc.hint)
        if self._proposed and len(self.sides) < 2:
            self.sides = compare_actions.proposal(self.models)
        await self._survey()

    async def _survey(self) -> None:
        """Learn what the chosen models need of memory, before anything is asked."""
        if self.comparison is not None and self.comparison.busy:
            self.views.changed()
            return
        roles = [(side.model, side.name, side.config.options) for side in self.sides]
        try:
            self._staging = await survey(self.client, wanted_models(roles))
        except WorkbenchError as exc:
            self._staging = Staging()
            self.problem = {"text": exc.message, "hint": exc.hint}
        else:
            self.problem = self.problem if self.unasked else None
        self.views.changed()

    async def rank(self) -> None:
        """Compute the ranking of the chosen votes."""
        from workbench.evals.ranking import rank

        votes, waiting = compare_picture.countable(self.comparisons)
        if self.scope == "here" or self.all_rankings is None:
            ranking = await asyncio.to_thread(rank, votes, by="label")
            found = compare_picture.ranking_of(ranking)
        elif waiting:
            # In the metrics they cannot be told from others, and each would name who won.
            found = {"rows": [], "votes": 0, "level": None, "notes": []}
        else:
            found = compare_picture.ranking_of(await asyncio.to_thread(self.all_rankings))
        if waiting:
            found["notes"] = [compare_picture.waiting_words(waiting), *found["notes"]]
        self.ranking = {**found, "waiting": waiting}
        self.views.changed()

    # --- to the view

    def state(self) -> dict[str, Any]:
        """Return what the view draws, as JSON values."""
        comparison, asked = self.comparison, self.asked
        busy = comparison is not None and comparison.busy
        hiding = self.hiding
        return {
            "conv": {
                "cid": DRAFT if comparison is None else comparison.id,
                "title": "Compare models",
                "saved": True,
                "read_only": False,
            },
            "turns": self._turns(),
            "busy": {"prompts": len(self._prompts())} if busy else None,
            "lanes": [] if asked is None else compare_picture.lanes_of(self._held(), asked),
            "prompt": None if asked is None else self._prompt(asked),
            "prompts": [compare_picture.label_of(text) for text in self._prompts()],
            "progress": self._progress(),
            "setup": {
                "sides": compare_picture.draft_sides(self.sides),
                "blind": self.blind,
                "schedule": self.schedule,
                "voter": self.voter,
                "changed": self.changed,
                "scopes": ["here"] if self.all_rankings is None else ["here", "all"],
            },
            # The order of work and what is in memory would tell whose answer it is.
            "plan": None if hiding else self._plan(),
            "problem": self._problem(hiding),
            "unasked": self.unasked,
            "ranking": self.ranking if self.ranking_open else None,
            "scope": self.scope,
            "models": compare_picture.picker_rows(self.models, hiding=hiding),
            "presets": self._presets(),
            "examples": list(EXAMPLES),
            "env": {
                "kernel": kernel_version(),
                "stop_while_busy": self.views.in_lab or stop_works_while_busy(),
                "insert": self.views.in_lab,
                "comm_id": None
                if self._view is None or stop_works_while_busy()
                else str(self._view.model_id),
            },
        }

    def _problem(self, hiding: bool) -> dict[str, Any] | None:
        if not hiding or self.problem is None or self.unasked:
            return self.problem
        return {"text": compare_picture.HIDDEN_PROBLEM, "hint": compare_picture.HIDDEN_HINT}

    def _held(self) -> Comparison:
        assert self.comparison is not None
        return self.comparison

    def _turns(self) -> list[dict[str, Any]]:
        asked = self.asked
        return (
            [] if asked is None else compare_picture.turns_of(self._held(), asked, self.views.live)
        )

    def _prompts(self) -> list[str]:
        return [] if self.comparison is None else self.comparison.prompts

    def _progress(self) -> str:
        """Return one letter per prompt; what did not change is not looked at again."""
        comparison = self.comparison
        for asked in comparison.asked if comparison is not None else ():
            if asked.index not in self._stages:
                stage = compare_picture.stage_of(self._held(), asked, self.voter)
                self._stages[asked.index] = stage
        return "".join(self._stages[index] for index in sorted(self._stages))

    def _prompt(self, asked: Asked) -> dict[str, Any]:
        comparison = self._held()
        pairs = compare_picture.pairs_of(comparison, asked)
        pair = self.judged(asked)
        return {
            "index": asked.index,
            "text": asked.text,
            "images": sum(len(message.images) for message in asked.messages),
            "hidden": comparison.hidden(asked.index),
            "held": compare_picture.is_held(comparison, asked),
            "counts": compare_picture.counts_of(asked),
            "pairs": [
                [*one, compare_picture.verdict_of(comparison, asked, one, self.voter)]
                for one in pairs
            ],
            "pair": None if pair is None else list(pair),
        }

    def judged(self, asked: Asked) -> compare_picture.Pair | None:
        """Return the two answers that a vote is on now."""
        comparison = self._held()
        if self.pair in compare_picture.pairs_of(comparison, asked):
            return self.pair
        return compare_picture.next_pair(comparison, asked, self.voter)

    def _plan(self) -> dict[str, Any] | None:
        if not self.sides:
            return None
        comparison = self.comparison
        if comparison is not None and not self.changed and comparison.staging.needs:
            staging = comparison.staging if comparison.busy else self._staging
            return plan_of(
                comparison.contenders, staging, schedule=self.schedule, comparison=comparison
            )
        return plan_of(self.sides, self._staging, schedule=self.schedule)

    def _presets(self) -> list[dict[str, Any]]:
        known = () if self.data_dir is None else presets.list_presets(self.data_dir)
        return [
            {
                "name": item.name,
                "system": item.system,
                "params": dict(item.options),
                "think": item.think,
            }
            for item in known
        ]
