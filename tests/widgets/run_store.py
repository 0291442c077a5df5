"""Run folders as real runs leave them, written through the journal at chosen moments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from workbench.locks import FileLock
from workbench.plans.folder import RunFolder, runs_dir
from workbench.plans.info import RunInfo
from workbench.plans.journal import RunJournal
from workbench.plans.parse import parse_plan
from workbench.units import rfc3339
from workbench.widgets.runs_detail import step_detail
from workbench.widgets.runs_feed import RunsFeed, Watched

NASTY = '<img src=x onerror="window.hacked=1"> \u202eevil <script>window.hacked=1</script>'
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
ANSWER = (
    "A soap bubble shines because light is reflected at both sides of a thin film.\n\n"
    "Where the two reflections meet, some colours add up and others cancel."
)
PLAN = """\
plan_version: 1
plan: compare-models
goal: |
  Ask each model the same questions, let a judge score the answers, and draw what came out.
  A person looks at the table before the report is written.
params:
  models: {type: "list[model]", default: [qwen3-4b, llama3.2-3b], help: The models to compare.}
  judge: {type: model, default: gemma3-12b}
  questions: {type: file, help: "JSON lines with a field question."}
  n: {type: int, default: 20, help: Questions to ask.}
  temperature: {type: float, default: 0.2}
  tone: {type: choice, choices: [plain, friendly, terse], default: plain}
  stop_words: {type: "list[str]", default: [END]}
  strict: {type: bool, default: true, help: Fail when an answer is empty.}
  token: {type: secret, env: REPORT_TOKEN}
steps:
  - id: load
    kind: python
    run: "questions.py:load"
    inputs: {path: $params.questions, n: $params.n}
  - id: warm
    kind: prompt
    title: Warm up
    model: $params.judge
    prompt: Say hello.
  - id: ask
    kind: prompt
    needs: [load]
    foreach: {m: $params.models, q: $load.result}
    model: $m
    prompt: |
      Answer in a $params.tone tone:
      ${q.question}
  - id: clean
    kind: python
    run: "questions.py:clean"
    inputs: {rows: $ask.table}
  - id: rate
    kind: prompt
    needs: [clean, warm]
    foreach: {row: $clean.result}
    model: $params.judge
    prompt: "Score from 0 to 10: ${row.answer}"
  - id: sane
    kind: check
    assert: "ask.errors == 0"
  - id: scores
    kind: python
    run: "questions.py:scores"
    inputs: {rows: $clean.result, judged: $rate.table}
  - id: enough
    kind: decision
    expr: "len(scores.result) > 4"
    then: [look]
    else: [excuse]
  - id: excuse
    kind: prompt
    model: $params.judge
    prompt: Say that there were too few answers.
  - id: plot
    kind: chart
    data: $scores.result
    chart: bar
    x: model
    y: score
  - id: look
    kind: approval
    needs: [sane]
    ask: Is the table good enough for the report?
    show: $scores.result
  - id: report
    kind: prompt
    needs: [look, plot]
    model: $params.judge
    prompt: "Write a report of ${scores.result}"
  - id: send
    kind: python
    run: "questions.py:send"
    effects: external
    inputs: {text: $report.text, token: $params.token}
"""
PARAMS = {
    "models": ["qwen3-4b", "llama3.2-3b"],
    "judge": "gemma3-12b",
    "questions": "questions.jsonl",
    "n": 20,
    "temperature": 0.2,
    "tone": "plain",
    "stop_words": ["END"],
    "strict": True,
    "token": {"env": "REPORT_TOKEN"},
}
SCORES = [
    {"model": model, "question": f"Why does a bubble shine? ({number})", "score": score}
    for number, (model, score) in enumerate(
        [("qwen3-4b", 7.5), ("llama3.2-3b", 6.25), ("qwen3-4b", 9.0), ("llama3.2-3b", 8.0)] * 7
    )
]
FIGURE = {
    "data": [{"type": "bar", "x": ["qwen3-4b", "llama3.2-3b"], "y": [8.2, 7.1]}],
    "layout": {"title": {"text": "Mean score"}, "yaxis": {"title": {"text": "score"}}},
}


def run_id(created: float, number: int = 0) -> str:
    """Return an id as `sortable_id` makes it, of a moment."""
    value = (int(created * 1000) << 80) | number
    return "".join(DIGITS[(value >> shift) & 31] for shift in range(125, -1, -5))


@cache
def _listed(plan: str) -> tuple[dict[str, Any], ...]:
    """Return the steps of a plan as `run.json` has them."""
    return tuple(
        {
            "id": step.id,
            "kind": step.kind,
            "needs": list(step.needs),
            "title": step.title,
            "foreach": bool(step.foreach),
        }
        for step in parse_plan(plan).steps
    )


class RunWriter:
    """Writes one run; moments are seconds after its beginning."""

    def __init__(
        self,
        data_dir: Path,
        created: float,
        *,
        plan: str = PLAN,
        name: str = "compare-models",
        number: int = 0,
        **more: Any,
    ) -> None:
        self.created = created
        self.folder = RunFolder(runs_dir(data_dir) / run_id(created, number))
        self.folder.path.mkdir(parents=True)
        self.journal = RunJournal(self.folder.journal)
        self.clock = 0.0
        self.folder.plan.write_text(plan, "utf-8")
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        self.folder.notebook.write_text(nbformat.writes(book), "utf-8")
        info = RunInfo(
            run_id=self.folder.run_id,
            plan=name,
            plan_hash="5f" * 32,
            run_key="a7" * 32,
            params=PARAMS,
            created=self.at(0),
            who="researcher",
            plan_dir=str(data_dir),
            data_dir=str(data_dir),
            source_hash="0" * 64,
            steps=_listed(plan),
        )
        replace(info, **more).write(self.folder)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.folder.run_id

    def at(self, seconds: float) -> str:
        """Return a moment as lines have it."""
        return rfc3339(datetime.fromtimestamp(self.created + seconds, UTC))

    def write(self, event: str, step: str | None = None, **fields: Any) -> RunWriter:
        """Write a line at the clock's moment; `after` moves the clock on first."""
        self.clock += fields.pop("after", 0.0)
        self.journal.write(event, ts=self.at(self.clock), step=step, **fields)
        return self

    def begin(self, **more: Any) -> RunWriter:
        """Write that a process began."""
        return self.write("run_started", pid=1, execution=1, **more)

    def end(self, status: str, **more: Any) -> RunWriter:
        """Write that it ended."""
        return self.write("run_finished", status=status, **more)

    def start(self, step: str, *, attempt: int = 1, **more: Any) -> RunWriter:
        """Write that a step began."""
        return self.write("step_started", step, attempt=attempt, key="k" * 64, **more)

    def output(self, step: str, name: str, value: Any) -> dict[str, Any]:
        """Write the file of an output and return its facts."""
        data = json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
        path = self.folder.committed(step) / "outputs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows = len(value) if isinstance(value, list) else None
        sha = hashlib.sha256(data).hexdigest()
        return {"sha256": sha, "type": "json", "bytes": len(data), "rows": rows}

    def done(self, step: str, *, seconds: float = 1.0, **outputs: Any) -> RunWriter:
        """Write that a step is done, with its outputs."""
        facts = {name: self.output(step, name, value) for name, value in outputs.items()}
        return self.write(
            "step_committed", step, key="k" * 64, seconds=seconds, outputs=facts, after=seconds
        )

    def did(self, step: str, *, seconds: float = 1.0, **outputs: Any) -> RunWriter:
        """Write the beginning and the end of a step."""
        return self.start(step).done(step, seconds=seconds, **outputs)

    def request(self, step: str, model: str = "gemma3-12b", **more: Any) -> RunWriter:
        """Write a request to a model."""
        facts = {"request_id": f"r{self.clock}", "input_tokens": 120, "output_tokens": 48}
        facts |= {"seconds": 1.5, "stop_reason": "stop", "model": model, "attempt": 1}
        return self.write("request", step, **(facts | more))

    @contextmanager
    def alive(self) -> Iterator[RunWriter]:
        """Hold the lock of the run's process."""
        with FileLock(self.folder.lock):
            yield self


def _beginning(run: RunWriter) -> RunWriter:
    """Write a run up to the middle of `ask`."""
    run.begin().start("load").start("warm", model="gemma3-12b")
    rows = [{"question": f"Why does a bubble shine? ({n})", "hard": n % 3 == 0} for n in range(20)]
    run.done("load", seconds=0.4, result=rows)
    run.request("warm").done("warm", seconds=2.1, text="Hello.")
    return run.start("ask", total=40)


def _items(run: RunWriter, until: int) -> RunWriter:
    for item in range(until):
        run.write("step_started", "ask", attempt=1, item=item)
        run.request("ask", ("qwen3-4b", "llama3.2-3b")[item % 2], item=item)
        run.write("step_committed", "ask", item=item, seconds=0.9, after=0.45)
    return run.write("step_progress", "ask", done=until, total=40, errors=0)


def _middle(run: RunWriter) -> RunWriter:
    """Write a run up to its question."""
    _items(_beginning(run), 40)
    run.done("ask", seconds=19.0, text=[ANSWER] * 3)
    run.did("clean", seconds=0.3, result=SCORES[:4]).start("rate", total=28).start("sane")
    run.done("sane", seconds=0.1).write("step_progress", "rate", done=28, total=28, errors=0)
    run.request("rate").done("rate", seconds=8.2, text=["8"] * 28)
    run.did("scores", seconds=0.7, result=SCORES)
    run.did("enough", seconds=0.1, choice="then")
    run.write("step_skipped", "excuse", reason="enough chose look")
    return run.did("plot", seconds=0.8, figure=FIGURE)


def ask(run: RunWriter) -> RunWriter:
    """Write the question of a run, at which it stops."""
    run.start("look")
    question = "Is the table good enough for the report?"
    run.write("step_waiting", "look", ask=question, show=SCORES, reason="approval", sha256="9" * 64)
    return run.end("waiting")


def running(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run in mid-work; it is alive only while somebody holds its lock."""
    run = _items(_beginning(RunWriter(data_dir, created, **more)), 12)
    return run.write("step_phase", "ask", phase="writing")


def waiting(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run that has stopped to ask."""
    return ask(_middle(RunWriter(data_dir, created, **more)))


def done(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run that a person said yes to two hours later, and that then came to its end."""
    run = waiting(data_dir, created, **more)
    kept = ("load", "warm", "ask", "clean", "rate", "sane", "scores", "enough", "plot")
    answered = {"yes": True, "who": "researcher", "note": "Good enough.", "sha256": "0" * 64}
    run.clock += 7200
    run.write("run_started", pid=2, execution=2, resumed=True)
    for step in kept:
        run.write("step_kept", step, key="k" * 64, outputs=_facts(run, step))
    run.write("step_skipped", "excuse", reason="enough chose look")
    run.write("step_answered", "look", when=run.at(run.clock - 30), **answered)
    run.start("look", attempt=2).done("look", seconds=0.1, yes=True)
    run.start("report", model="gemma3-12b").request("report", output_tokens=310)
    run.done("report", seconds=6.4, text=ANSWER + "\n\n" + NASTY)
    return run.did("send", seconds=0.5, sent=True).end("done")


def _facts(run: RunWriter, step: str) -> dict[str, Any]:
    found = {}
    for path in sorted((run.folder.committed(step) / "outputs").glob("*.json")):
        found[path.stem] = run.output(step, path.stem, json.loads(path.read_bytes()))
    return found


def failed(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run of which a step failed three times, so that others are blocked."""
    run = _items(_beginning(RunWriter(data_dir, created, **more)), 40)
    run.done("ask", seconds=19.0, text=[ANSWER]).did("clean", seconds=0.3, result=SCORES[:4])
    run.did("sane", seconds=0.1)
    error = {
        "type": "StreamBroken",
        "message": "The answer of gemma3-12b broke off after 31 tokens: CUDA error.",
        "hint": "See the log of the server: workbench logs.",
    }
    for attempt in (1, 2, 3):
        run.start("rate", attempt=attempt, total=28, model="gemma3-12b", after=1.0)
        run.write("step_started", "rate", attempt=attempt, item=3)
        run.write("step_failed", "rate", item=3, error=error, seconds=2.0, after=2.0)
        run.write("step_failed", "rate", error=error, final=attempt == 3, seconds=2.0)
    for step in ("scores", "enough", "excuse", "plot", "look", "report", "send"):
        run.write("step_blocked", step, by=["rate"])
    step_failed = {"type": "StepFailed", "message": "Step rate failed: " + error["message"]}
    return run.end("failed", error=step_failed | {"hint": "`workbench resume` tries it again."})


def lost(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run whose process was killed."""
    run = running(data_dir, created, **more)
    run.folder.log.write_text("kernel started\nKilled\n", "utf-8")
    return run


def cancelled(data_dir: Path, created: float, **more: Any) -> RunWriter:
    """Write a run that a person stopped."""
    run = running(data_dir, created, **more)
    return run.write("step_cancelled", "ask", seconds=6.0).end("cancelled")


def fill(data_dir: Path, now: float) -> dict[str, RunWriter]:
    """Write a run of each state, the newest first, and one that cannot be read."""
    makers: Mapping[str, Callable[..., RunWriter]] = {
        "running": running,
        "waiting": waiting,
        "failed": failed,
        "done": done,
        "lost": lost,
        "cancelled": cancelled,
    }
    runs = {
        name: make(data_dir, now - 9 - number * 4000, name=_name(name))
        for number, (name, make) in enumerate(makers.items())
    }
    broken = RunWriter(data_dir, now - 90_000)
    broken.folder.info.write_text('{"v": 1, "plan": ', "utf-8")
    return {**runs, "broken": broken}


def picture(data_dir: Path, now: float) -> dict[str, Any]:
    """Return what the kernel's side makes of a run of each state, for the scenes of the page.

    The value has `rows`, `store`, and by the name of the state `runs`: `{id, run, steps, details}`.
    """
    runs = fill(data_dir, now)
    feed = RunsFeed(data_dir)
    found: dict[str, Any] = {"runs": {}, "now": now}
    with runs["running"].alive():
        for name, run in runs.items():
            # What is looked at is touched on one loop only, and here there is none other.
            look = feed._look({run.run_id})
            found |= {"store": look.store, "rows": look.rows}
            watched = feed.watched(run.run_id)
            detail = look.details.get(run.run_id)
            if watched is None or detail is None:
                continue
            details = {step: _detail(watched, step) for step in detail["steps"]}
            found["runs"][name] = {"id": run.run_id, **detail, "details": details}
    found["store"] = {**found["store"], "folder": "/data/workbench/runs"}
    told = json.dumps(found).replace(str(data_dir), "/data/workbench")
    return dict(json.loads(told))


def _detail(run: Watched, step: str) -> dict[str, Any]:
    assert run.story is not None
    state, story = run.story.state.step(step), run.story.steps.get(step)
    return step_detail(run.folder, run.plan.step(step), state, story)


def _name(state: str) -> str:
    return "summarise-papers" if state == "cancelled" else "compare-models"
