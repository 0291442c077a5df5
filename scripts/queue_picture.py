"""Draw docs/images/queue.svg: a short run of the queue on a simulated machine.

    python scripts/queue_picture.py

What is drawn is what the queue decided; only the arrivals are made up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.bench.simulation import Job, Outcome, gated, run  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "queue.svg"
WAIT_S, LOAD_S = 5.0, 2.0
ARRIVALS = {"a": (0, 0, 1.5, 3.5, 6.5, 7.5, 8.8, 9.6), "b": (3, 6, 9)}
SERVICE_S = {"a": 1.5, "b": 1.0}
COLOURS = {"a": "#1b6ca8", "b": "#b3541e"}

LEFT, TOP, SECOND, STEP = 96.0, 74.0, 33.0, 13.0
WIDTH = 830
# Where each lane's requests wait and run, and where memory is drawn.
WAITING_Y = {"a": TOP + 6, "b": TOP + 150}
RUNNING_Y = {"a": TOP + 80, "b": TOP + 224}
MEMORY_Y = TOP + 288
BAR = 26.0

STYLE = """
text{font:13px system-ui,sans-serif;fill:#22303c}
.small{font-size:11.5px;fill:#4a5a68}
.on{fill:#fff;font-weight:600}
.note{font-style:italic;paint-order:stroke;stroke:#fbfcfd;stroke-width:5px}
"""


def x(seconds: float) -> float:
    """Return where a time is drawn."""
    return LEFT + seconds * SECOND


def text(at: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return words at a place."""
    return f'<text x="{at:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    """Return a line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" {more}/>'


def box(x1: float, x2: float, y: float, height: float, fill: str, more: str = "") -> str:
    """Return a filled box."""
    place = f'x="{x1:.1f}" y="{y:.1f}" width="{x2 - x1:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="3" fill="{fill}" {more}/>'


def requests(outcome: Outcome, lane: str) -> Iterator[str]:
    """Draw the requests of a lane: a dot where one comes, a line while it waits, a bar."""
    ends: list[float] = []
    for number, job in enumerate(job for job in outcome.jobs if job.lane == lane):
        assert job.arrived is not None
        # The first row that is free again, with a gap to see.
        row = next((r for r, end in enumerate(ends) if end < job.arrived - 0.5), len(ends))
        ends[row : row + 1] = [job.started]
        y = WAITING_Y[lane] + 8 + row * STEP
        yield line(x(job.arrived), y, x(job.started), y, COLOURS[lane], 'stroke-width="2"')
        yield f'<circle cx="{x(job.arrived):.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[lane]}"/>'
        end = job.started + job.service_s
        more = 'stroke="#fff" stroke-width="1.5"'
        yield box(x(job.started), x(end), RUNNING_Y[lane], BAR, COLOURS[lane], more)
        middle = x((job.started + end) / 2)
        yield text(middle, RUNNING_Y[lane] + 18, f"{lane}{number + 1}", "on", "middle")


def memory(outcome: Outcome) -> Iterator[str]:
    """Draw which model memory holds, and the loads."""
    yield text(16, MEMORY_Y + 18, "memory")
    ends = [visit.begun for visit in outcome.visits[1:]] + [outcome.total_s]
    for visit, end in zip(outcome.visits, ends, strict=True):
        colour = COLOURS[visit.lane]
        more = f'stroke="{colour}"'
        yield box(x(visit.begun), x(visit.loaded), MEMORY_Y, BAR, "url(#hatch)", more)
        middle = x((visit.begun + visit.loaded) / 2)
        yield text(middle, MEMORY_Y + BAR + 15, f"load {visit.lane}", "small", "middle")
        yield box(x(visit.loaded), x(end), MEMORY_Y, BAR, colour, more)
        yield text(x((visit.loaded + end) / 2), MEMORY_Y + 18, visit.lane, "on", "middle")


def marks(outcome: Outcome) -> Iterator[str]:
    """Draw W, the gates and the switches."""
    bottom = MEMORY_Y + BAR
    for before, visit in zip(outcome.visits, outcome.visits[1:], strict=False):
        # The first of this lane's requests that the visits before have not served.
        arrived = min(
            job.arrived
            for job in outcome.jobs
            if job.lane == visit.lane and job.started >= visit.loaded and job.arrived is not None
        )
        due = arrived + WAIT_S
        closed = before.lane
        top = WAITING_Y[closed] - 8
        height = RUNNING_Y[closed] + BAR + 6 - top
        yield box(x(due), x(visit.begun), top, height, COLOURS[closed], 'opacity="0.13"')
        yield line(x(due), TOP - 24, x(due), bottom, "#22303c", 'stroke-dasharray="5 4"')
        yield text(x(due) + 5, TOP - 14, f"gate on {closed}", "")
        yield line(x(visit.begun), TOP - 24, x(visit.begun), bottom, "#22303c")
        yield text(x(visit.begun) + 5, TOP - 14, f"switch to {visit.lane}", "")
        y = RUNNING_Y[visit.lane] + 13
        if visit.lane == "b":
            ends = 'marker-start="url(#arrow)" marker-end="url(#arrow)"'
            yield line(x(arrived) + 2, y, x(due) - 2, y, "#22303c", ends)
            label = f"W = {WAIT_S:g} s: {visit.lane} waits, {closed} goes on"
            yield text((x(arrived) + x(due)) / 2, y - 7, label, "small", "middle")
    y = WAITING_Y["a"] + 8 + 2 * STEP + 26
    yield text(x(11.3), y, "a7, a8 came after the gate: the next turn is theirs", "small note")


def axis(outcome: Outcome) -> Iterator[str]:
    """Draw the seconds and the names of the lanes."""
    bottom = MEMORY_Y + BAR + 26
    for second in range(0, int(outcome.total_s) + 1, 2):
        yield line(x(second), bottom, x(second), bottom + 5, "#4a5a68")
        yield text(x(second), bottom + 18, f"{second} s", "small", "middle")
    yield line(x(0), bottom, x(outcome.total_s), bottom, "#4a5a68")
    for lane in ARRIVALS:
        yield text(16, WAITING_Y[lane] + 12, f"model {lane}", "")
        yield text(16, WAITING_Y[lane] + 30, "waiting", "small")
        yield text(16, RUNNING_Y[lane] + 18, "running", "small")


def picture(outcome: Outcome) -> str:
    """Return the whole drawing."""
    height = int(MEMORY_Y + BAR + 60)
    words = (
        "Requests of two models over time: the model in memory is served until a request of the "
        "other has waited W; what waits then is finished, and the other model is loaded."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{words}</title><style>{STYLE}</style>",
        '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="7" height="7" fill="#e8edf1"/>'
        '<line x1="0" y1="0" x2="0" y2="7" stroke="#9aa9b5" stroke-width="3"/></pattern>'
        '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#22303c"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fbfcfd"/>',
        text(16, 26, "One model fits in memory: serve it, close it when the other is due, switch"),
        *marks(outcome),
        *(part for lane in ARRIVALS for part in requests(outcome, lane)),
        *memory(outcome),
        *axis(outcome),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Run the queue and draw it."""
    jobs = [
        Job(lane, float(at), SERVICE_S[lane]) for lane, times in ARRIVALS.items() for at in times
    ]
    outcome = run(gated(WAIT_S), jobs, load_s=LOAD_S)
    PICTURE.write_text(picture(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
