"""The queue by model beside plain rules, on a simulated clock: the same figures every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from tests.bench.report import Figure
from tests.bench.simulation import (
    Job,
    OneByOne,
    Outcome,
    Queue,
    first_come,
    gated,
    greedy,
    naive,
    run,
)

MODELS = ("a", "b", "c")
CLIENTS, REQUESTS, LOAD_S, WAIT_S = 4, 30, 2.0, 30.0
GENERATION_S = (0.05, 0.2)
SEEDS = range(20)
# The setting of the literature's simulation: seconds per request, per load, W, and how busy.
JOBS, SERVICE_S, RANDOM_LOAD_S, RANDOM_WAIT_S, BUSY = 600, 4.0, 8.0, 60.0, 0.72
# One model asked twenty times as often as the other, on a machine that is nearly full.
HOT, HOT_BUSY = 20, 0.96
LOOPS, QUESTIONS, ANSWER_S, THINK_S, LOOP_WAIT_S = 2, 40, 0.5, 0.05, 5.0

NOTES = (
    "The clock is simulated: these figures are the same on every machine; sockets and real loads "
    "are not in them.",
    f"Backlog: {CLIENTS} clients submit {REQUESTS} requests each at once, over {len(MODELS)} "
    f"models in turn; memory for one, load {LOAD_S:g} s, {GENERATION_S[0]:g} to "
    f"{GENERATION_S[1]:g} s per request, one at a time, W = {WAIT_S:g} s.",
    "In step, all clients begin with the same model, which is the kindest order to first come, "
    "first served; out of step, each begins with another.",
    f"Random arrivals: Poisson, {JOBS} requests on {len(MODELS)} models at {BUSY:.0%} of what one "
    f"model in memory could serve, {SERVICE_S:g} s per request (exponential), load "
    f"{RANDOM_LOAD_S:g} s, W = {RANDOM_WAIT_S:g} s; means of {len(SEEDS)} seeds.",
    f"Hot and rare: the same on two models, one asked {HOT} times as often, at {HOT_BUSY:.0%}.",
    "The naive rule serves the oldest request whenever it has waited longer than W.",
    f"Loops: {LOOPS} clients ask {QUESTIONS} questions one after another, each of its own model, "
    f"{ANSWER_S:g} s per answer, the next question {THINK_S:g} s later, load {LOAD_S:g} s, "
    f"W = {LOOP_WAIT_S:g} s.",
    "The bound of a request is W, then what waited in each lane before it when that lane was "
    "closed, and the loads.",
)


def backlog(*, in_step: bool) -> list[Job]:
    """Return what the clients submit, in order of arrival: one request of each in turn."""
    seconds = random.Random(7)
    return [
        Job(
            MODELS[(number + (0 if in_step else client)) % len(MODELS)],
            0.0,
            seconds.uniform(*GENERATION_S),
        )
        for number in range(REQUESTS)
        for client in range(CLIENTS)
    ]


def arrivals(seed: int, *, hot: bool) -> list[Job]:
    """Return random requests on three models alike, or on a hot and a rare one."""
    dice, now, jobs = random.Random(seed), 0.0, []
    models, weights = (("hot", "rare"), (HOT, 1)) if hot else (MODELS, (1, 1, 1))
    for _ in range(JOBS):
        now += dice.expovariate((HOT_BUSY if hot else BUSY) / SERVICE_S)
        lane = dice.choices(models, weights)[0]
        jobs.append(Job(lane, now, dice.expovariate(1 / SERVICE_S)))
    return jobs


def loops() -> list[Job]:
    """Return the questions of clients that wait for each answer before the next question."""
    jobs = [
        Job(MODELS[client], 0.0 if number == 0 else None, ANSWER_S, "interactive")
        for client in range(LOOPS)
        for number in range(QUESTIONS)
    ]
    for ticket, job in enumerate(jobs):
        if (ticket + 1) % QUESTIONS:
            job.then, job.think_s = ticket + 1, THINK_S
    return jobs


def simulate(queue: Queue, jobs: Sequence[Job], *, load_s: float) -> Outcome:
    """Run copies of the jobs, so that the next queue gets the same."""
    return run(queue, [replace(job) for job in jobs], load_s=load_s)


def past_bound(outcome: Outcome, wait_s: float) -> list[Job]:
    """Return the requests that waited longer than their bound."""
    # Sums in another order differ in the last bits.
    return [job for job in outcome.jobs if job.wait_s > outcome.bound_s(job, wait_s) + 1e-6]


def _backlog_figures(*, in_step: bool) -> list[Figure]:
    jobs = backlog(in_step=in_step)
    ours = simulate(gated(WAIT_S), jobs, load_s=LOAD_S)
    fifo = simulate(OneByOne(first_come), jobs, load_s=LOAD_S)
    least = len({job.lane for job in jobs})
    name = f"queue: backlog {'in' if in_step else 'out of'} step"
    late = past_bound(ours, WAIT_S)
    longest = max(ours.jobs, key=lambda job: job.wait_s)
    return [
        Figure(
            f"{name}, total time",
            ours.total_s,
            "s",
            f"first come: {fifo.total_s:.0f} s",
        ),
        Figure(
            f"{name}, share of first come, first served",
            ours.total_s / fifo.total_s,
            "x",
            "",
            "at most 0.35x",
            ours.total_s <= 0.35 * fifo.total_s,
        ),
        Figure(
            f"{name}, loads",
            ours.swaps,
            "loads",
            f"first come: {fifo.swaps}; least possible: {least}",
            "at most 1.2x the least",
            ours.swaps <= 1.2 * least,
        ),
        Figure(
            f"{name}, longest wait",
            longest.wait_s,
            "s",
            f"its bound: {ours.bound_s(longest, WAIT_S):.1f} s; mean {ours.mean_wait_s:.1f} s; "
            f"first come: longest {fifo.max_wait_s():.0f} s, mean {fifo.mean_wait_s:.0f} s",
            "none past its bound",
            not late,
        ),
    ]


def random_outcomes(*, hot: bool) -> dict[str, list[Outcome]]:
    """Return the runs of every rule over all seeds."""
    rules: dict[str, Callable[[], Queue]] = {
        "ours": lambda: gated(RANDOM_WAIT_S),
        "first come": lambda: OneByOne(first_come),
        "greedy": lambda: OneByOne(greedy),
        "naive": lambda: OneByOne(naive(RANDOM_WAIT_S)),
    }
    return {
        name: [simulate(make(), arrivals(seed, hot=hot), load_s=RANDOM_LOAD_S) for seed in SEEDS]
        for name, make in rules.items()
    }


def _compared(
    name: str, unit: str, outcomes: dict[str, list[Outcome]], read: Callable[[Outcome], float]
) -> Figure:
    means = {rule: fmean(map(read, runs)) for rule, runs in outcomes.items()}
    ours = means.pop("ours")
    beside = "; ".join(f"{rule}: {value:,.0f}" for rule, value in means.items())
    return Figure(f"queue: {name}", ours, unit, beside)


def _random_figures() -> list[Figure]:
    alike, skewed = random_outcomes(hot=False), random_outcomes(hot=True)
    ours = [*alike["ours"], *skewed["ours"]]
    late = [job for outcome in ours for job in past_bound(outcome, RANDOM_WAIT_S)]
    return [
        _compared("random arrivals, loads", "loads", alike, lambda run: run.swaps),
        _compared("random arrivals, mean wait", "s", alike, lambda run: run.mean_wait_s),
        _compared("random arrivals, longest wait", "s", alike, lambda run: run.max_wait_s()),
        _compared("random arrivals, total time", "s", alike, lambda run: run.total_s),
        _compared("hot and rare, loads", "loads", skewed, lambda run: run.swaps),
        _compared("hot and rare, mean wait", "s", skewed, lambda run: run.mean_wait_s),
        _compared(
            "hot and rare, longest wait for the rare one",
            "s",
            skewed,
            lambda run: run.max_wait_s("rare"),
        ),
        Figure(
            "queue: random arrivals, requests that waited past their bound",
            len(late),
            "requests",
            f"of {len(ours) * JOBS:,}",
            "none",
            not late,
        ),
    ]


def _loop_figure() -> Figure:
    ours = simulate(gated(LOOP_WAIT_S), loops(), load_s=LOAD_S)
    fifo = simulate(OneByOne(first_come), loops(), load_s=LOAD_S)
    hasty = simulate(gated(LOOP_WAIT_S, linger_s=0.0), loops(), load_s=LOAD_S)
    return Figure(
        "queue: two loops, each on its own model, loads",
        ours.swaps,
        "loads",
        f"first come: {fifo.swaps}; without the moment for the next question: {hasty.swaps}; "
        f"total {ours.total_s:.0f} s beside {fifo.total_s:.0f} s",
    )


def measure() -> list[Figure]:
    """Return the figures of a known backlog, of random arrivals and of two loops."""
    return [
        *_backlog_figures(in_step=True),
        *_backlog_figures(in_step=False),
        *_random_figures(),
        _loop_figure(),
    ]
