"""The named questions, on rows whose answers are known."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from tests.metrics.conftest import START, request_row
from workbench.errors import StoreError, UnknownColumn
from workbench.metrics import Metrics
from workbench.metrics.journal import JournalWriter
from workbench.metrics.queries import Questions, as_utc

HOURS = ((START, START + timedelta(hours=1)), (START + timedelta(hours=1), None))

QUESTIONS: dict[str, Callable[[Metrics], pd.DataFrame]] = {
    "latency": lambda m: m.latency(),
    "throughput": lambda m: m.throughput(),
    "loads": lambda m: m.loads(),
    "errors": lambda m: m.errors(),
    "memory": lambda m: m.memory(),
    "recent": lambda m: m.recent(),
    "runs": lambda m: m.runs(),
    "steps": lambda m: m.steps(),
    "compare_periods": lambda m: m.compare_periods(*HOURS),
}


@pytest.fixture
def filled(writer: JournalWriter, metrics: Metrics) -> Metrics:
    """Twelve requests of two models over two hours, with one cold, one failed, one cancelled."""
    for number in range(12):
        values: dict[str, Any] = {"gen_ai_response_time_to_first_chunk": 0.1 * (number + 1)}
        if number == 0:
            values |= {"cold": True, "gen_ai_response_time_to_first_chunk": 30.0, "load_wait": 29.0}
        if number == 3:
            values |= {"status": "error", "error_type": "LoadFailed", "error_stage": "load"}
            values |= {"error_message": "no room"}
        if number == 4:
            values |= {"status": "cancelled"}
        if number >= 10:
            values |= {"gen_ai_request_model": "m2", "gen_ai_usage_cache_read_input_tokens": 60}
        writer.write("requests", request_row(number, **values))
    event = {"backend": "ollama", "model": "m1", "vram_bytes": 5, "ts": START}
    for seconds, ok in ((4.0, True), (2.0, True), (None, False)):
        name = "load" if ok else "load_failed"
        writer.write("model_events", {**event, "event": name, "duration": seconds, "ok": ok})
    for minute, used in ((0, 10), (0, 30), (1, 20)):
        when = START + timedelta(minutes=minute)
        writer.write("gpu_samples", {"ts": when, "hw_id": "0", "hw_gpu_memory_usage": used})
    run = {"id": "run1", "run_id": "run1", "kind": "plan", "ts": START}
    writer.write("runs", {**run, "status": "ok", "ended": START + timedelta(seconds=90.5)})
    return metrics


def test_latency_leaves_cold_and_failed_out(filled: Metrics) -> None:
    """Percentiles are of warm requests that ended well; hours and models stand apart."""
    frame = filled.latency(by="hour")
    assert ["m1", "m1", "m2"] == list(frame["model"])
    assert [3, 4, 2] == list(frame["n"])
    assert 0.3 == pytest.approx(frame["ttft_p50_s"][0])
    assert pd.Timestamp("2026-11-20 08:00") == frame["hour"][0]


def test_latency_of_cold_requests_can_be_asked(filled: Metrics) -> None:
    """Cold requests alone, and both kinds together, on demand."""
    assert [1, 30.0] == filled.latency(by=None, cold=True)[["n", "ttft_p50_s"]].values.tolist()[0]
    assert 12 - 2 == filled.latency(by=None, cold=None)["n"].sum()


def test_latency_can_be_grouped_by_a_column(filled: Metrics) -> None:
    """Any column of `requests` may take the place of the time, and so may its short name."""
    assert ["ollama"] == list(filled.latency(by="backend")["backend"].unique())
    assert ["test"] == list(filled.latency(by="client")["client"].unique())
    assert ["model", "n"] == list(filled.latency(by="model").columns[:2])


def test_throughput_counts_tokens_and_ends(filled: Metrics) -> None:
    """Tokens, ends of each kind, and rates as a sum over a sum, cached tokens apart."""
    frame = filled.throughput(by=None).set_index("model")
    assert [10, 8, 1, 1] == frame.loc["m1", ["n", "n_ok", "n_errors", "n_cancelled"]].to_list()
    assert sum(10 + n for n in range(10)) == frame.loc["m1", "output_tokens"]
    assert 20.5 == frame.loc["m2", "tokens_per_s"]
    assert (100 - 60) / 0.5 == frame.loc["m2", "prompt_tokens_per_s"]


def test_loads_tell_time_and_failures(filled: Metrics) -> None:
    """Loads of a model: how many, how many failed, how long."""
    (row,) = filled.loads().to_dict("records")
    assert {"n": 3, "n_failed": 1, "load_p50_s": 3.0, "load_max_s": 4.0}.items() <= row.items()


def test_errors_tell_what_failed(filled: Metrics) -> None:
    """Each kind of failure with its share, time and last message."""
    frame = filled.errors()
    assert {"error", "cancelled"} == set(frame["status"])
    row = frame[frame["status"] == "error"].iloc[0]
    assert ["LoadFailed", "load", 1, 0.1, "no room"] == row[
        ["error_type", "error_stage", "n", "share", "last_message"]
    ].to_list()


def test_memory_is_the_most_of_an_interval(filled: Metrics) -> None:
    """Each interval has the most memory that was in use in it."""
    assert [30, 20] == list(filled.memory()["used_bytes"])
    assert [30] == list(filled.memory(every_s=3600)["used_bytes"])


def test_recent_is_newest_first(filled: Metrics) -> None:
    """The newest requests, with all columns or the ones asked for."""
    frame = filled.recent(3, columns=["id", "ts"])
    assert ["r0011", "r0010", "r0009"] == list(frame["id"])
    assert ["id", "ts"] == list(frame.columns)


def test_runs_sum_up_their_requests(filled: Metrics) -> None:
    """A run with what its requests took."""
    (row,) = filled.runs().to_dict("records")
    assert {"run_id": "run1", "n": 12, "n_errors": 1, "duration_s": 90.5}.items() <= row.items()
    assert ["m1", "m2"] == list(row["models"])


def test_periods_are_compared(filled: Metrics) -> None:
    """Two times side by side, with the ratio of the second to the first."""
    frame = filled.compare_periods(*HOURS).set_index("model")
    assert [3, 4] == frame.loc["m1", ["n_a", "n_b"]].to_list()
    assert 0.3 == pytest.approx(frame.loc["m1", "ttft_p50_s_a"])
    assert 0.85 / 0.3 == pytest.approx(frame.loc["m1", "ttft_p50_ratio"])
    assert 0 == frame.loc["m2", "n_a"]
    assert pd.isna(frame.loc["m1", "ttft_p50_ratio_low"]), "of three and four values"


def test_periods_tell_how_sure_they_are(writer: JournalWriter, metrics: Metrics) -> None:
    """A model that became slower and fails more has intervals that leave chance out."""
    for number in range(80):
        later = number >= 40
        values: dict[str, Any] = {
            "ts": START + timedelta(minutes=number, hours=1 if later else 0),
            "gen_ai_response_time_to_first_chunk": (0.2 if later else 0.1) * (1 + number % 4 / 10),
            "gen_ai_usage_output_tokens": 100 + number % 7,
            "ollama_eval_duration": (2.0 if later else 1.0) * (1 + number % 5 / 50),
        }
        if later and number % 2:
            values |= {"status": "error", "error_type": "LoadFailed"}
        writer.write("requests", request_row(number, **values))
    for number in range(3):
        writer.write("requests", request_row(100 + number, ts=START, status="open"))
    (row,) = metrics.compare_periods(
        (START, START + timedelta(hours=1)),
        (START + timedelta(hours=1), START + timedelta(hours=3)),
    ).to_dict("records")
    assert (40, 20, 40, 40) == tuple(row[n] for n in ("n_a", "n_b", "n_ended_a", "n_ended_b"))
    assert 0.5 == row["error_share_difference"]
    assert 0.3 < row["error_share_difference_low"] < 0.5 < row["error_share_difference_high"] < 0.7
    for name, ratio in (("ttft_p50_ratio", 2.0), ("tokens_per_s_ratio", 0.5)):
        low, value, high = row[f"{name}_low"], row[name], row[f"{name}_high"]
        assert ratio == pytest.approx(value, rel=0.1)
        assert low < value < high and not low < 1 < high
    narrow, wide = (
        metrics.compare_periods((START, START + timedelta(hours=1)), (START, None), level=level)
        for level in (0.5, 0.99)
    )
    assert (narrow["ttft_p50_ratio_high"] < wide["ttft_p50_ratio_high"]).all()


def test_a_model_is_one_whatever_the_answer_calls_it(
    writer: JournalWriter, metrics: Metrics
) -> None:
    """Requests that name the tag, that do not, and that failed without an answer are one model's.

    By what the answer calls it a failed request would stand apart, as another model that always
    fails.
    """
    called = [
        {"gen_ai_response_model": "owl"},
        {"gen_ai_response_model": "owl:latest"},
        {"gen_ai_response_model": None, "status": "error", "error_type": "ResponseError"},
        {"gen_ai_response_model": "owl"},
    ]
    for number, values in enumerate(called):
        row = request_row(number, gen_ai_request_model="owl:latest", chunk_gaps=[0.1], **values)
        writer.write("requests", row)
    failed = metrics.errors()
    assert [("owl:latest", 1, 0.25)] == list(
        failed[["model", "n", "share"]].itertuples(index=False, name=None)
    )
    (row,) = metrics.throughput(by=None).to_dict("records")
    assert ("owl:latest", 4, 3, 1) == tuple(row[n] for n in ("model", "n", "n_ok", "n_errors"))
    (row,) = metrics.compare_periods((START, None), (START, None)).to_dict("records")
    assert ("owl:latest", 0.25) == (row["model"], row["error_share_a"])
    for frame in (metrics.gaps(), metrics.sql("SELECT DISTINCT model FROM calls")):
        assert {"owl:latest"} == set(frame["model"])


def test_totals_too_great_are_not_known(writer: JournalWriter, metrics: Metrics) -> None:
    """A backend that tells of 2**62 tokens spoils its own sum, not the questions."""
    for number in range(3):
        values = {"gen_ai_usage_output_tokens": 2**62, "gen_ai_usage_input_tokens": 10}
        writer.write("requests", request_row(number, run_id="run1", **values))
    writer.write("runs", {"id": "run1", "run_id": "run1", "kind": "plan", "ts": START})
    for frame in (metrics.throughput(by=None), metrics.runs()):
        assert pd.isna(frame["output_tokens"][0])
        assert 30 == frame["input_tokens"][0]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda m: m.latency(since=float("nan")), "nan is not a time"),
        (lambda m: m.latency(since=float("inf")), "inf is not a time"),
        (lambda m: m.latency(since=1e18), "is not a time"),
        (lambda m: m.latency(since=pd.NaT), "NaT is not a time"),
        (lambda m: m.latency(since=True), "True is not a time"),
        (lambda m: m.latency(since=60, until=120), "not after it begins"),
        (lambda m: m.latency(since=-5), "-5 is not a time"),
        (lambda m: m.latency(since="-5m"), "'-5m' is not a time"),
        (lambda m: m.latency(since="infd"), "'infd' is not a time"),
        (lambda m: m.latency(since="24x"), "'24x' is not a time"),
        (lambda m: m.latency(7), "'7'"),
        (lambda m: m.latency(["model"]), "no column"),
        (lambda m: m.latency(cold="no"), "cold is 'no'"),
        (lambda m: m.votes(blind="no"), "blind is 'no'"),
        (lambda m: m.votes(voter=3), "voter is 3"),
        (lambda m: m.votes(comparison=["c"]), "comparison is ['c']"),
        (lambda m: m.sql(None), "None is no text"),
        (lambda m: m.sql("SELECT 1", timeout_s="x"), "timeout_s is 'x'"),
        (lambda m: m.sql("SELECT 1", timeout_s=-1), "timeout_s is -1"),
        (lambda m: m.recent(-1), "n is -1"),
        (lambda m: m.recent(2.5), "n is 2.5"),
        (lambda m: m.recent(10**12), "from 1 to 1000000000"),
        (lambda m: m.recent(columns=[]), "columns names none"),
        (lambda m: m.steps(-1), "runs is -1"),
        (lambda m: m.steps("plan"), "runs is 'plan'"),
        (lambda m: m.memory(every_s=0), "every_s is 0"),
        (lambda m: m.memory(every_s=float("nan")), "every_s is nan"),
        (lambda m: m.compare_periods((60, 120), (240, 120)), "not after it begins"),
        (lambda m: m.compare_periods(60, (240, 120)), "period a is 60"),
        (lambda m: m.compare_periods(*HOURS, level=95), "95 is no level"),
        (lambda m: m.compare_periods(*HOURS, level="x"), "'x' is no level"),
    ],
)
def test_what_cannot_be_asked_is_told(
    ask: Callable[[Metrics], Any], told: str, filled: Metrics
) -> None:
    """A value that means nothing gives an error that names it and what to write."""
    with pytest.raises((StoreError, UnknownColumn), match=re.escape(told)) as caught:
        ask(filled)
    assert caught.value.hint


def test_a_timedelta_is_a_time_before_now(filled: Metrics) -> None:
    """Time may be given as pandas and datetime write it; one column may be given by its name."""
    assert filled.throughput(since=timedelta(seconds=1)).empty
    assert 12 == filled.throughput(by=None, since=timedelta(days=36500))["n"].sum()
    assert filled.throughput(since="1m30s").empty
    for long in ("36500d", "5200w"):
        assert 12 == filled.throughput(by=None, since=long)["n"].sum()
    assert ["id"] == list(filled.recent(1, columns="id").columns)
    assert {"id": "r0011", "model": "m2"} == filled.recent(1, columns=["id", "model"]).loc[
        0
    ].to_dict()


def test_a_time_bounds_a_question(filled: Metrics) -> None:
    """The beginning is included, the end is not."""
    frame = filled.throughput(by=None, since=START, until=START + timedelta(minutes=10))
    assert 1 == frame["n"].sum()


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_empty_store_has_answers(name: str, metrics: Metrics) -> None:
    """Every question can be asked before there is any row."""
    assert QUESTIONS[name](metrics).empty


@pytest.mark.parametrize("name", sorted(set(QUESTIONS) - {"recent"}))
def test_docstrings_name_every_column(name: str, filled: Metrics) -> None:
    """The docstring of a question tells every column of its answer."""
    text = inspect.getdoc(getattr(Questions, name)) or ""
    words = set(re.findall(r"\w+", text.split("Returns:")[1].split("Raises:")[0]))
    columns = set(QUESTIONS[name](filled).columns) - {"hour"}
    assert set() == columns - words


@pytest.mark.parametrize(
    ("by", "nearest"), [("huor", "hour"), ("modle", "model"), ("backnd", "backend")]
)
def test_an_unknown_column_is_told(metrics: Metrics, by: str, nearest: str) -> None:
    """A column that there is not raises, with the nearest name."""
    with pytest.raises(UnknownColumn) as caught:
        metrics.latency(by=by)
    assert nearest == caught.value.nearest
    with pytest.raises(UnknownColumn) as caught:
        metrics.recent(columns=["id", "huor"])
    assert "hour" != caught.value.nearest, "a time is no column"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1, 10),
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        "2026-01-01T10:00",
        "2026-01-01T12:00+02:00",
        "2026-01-01T10:00:00Z",
    ],
    ids=str,
)
def test_moments_are_utc(moment: object) -> None:
    """A moment without a zone is UTC, one with a zone is converted."""
    assert datetime(2026, 1, 1, 10) == as_utc(moment)


def test_seconds_are_before_now() -> None:
    """A number is seconds before now."""
    assert timedelta(minutes=59) < datetime.now(UTC).replace(tzinfo=None) - as_utc(3600)


def test_no_moment_is_told() -> None:
    """What is no time raises with an example."""
    with pytest.raises(StoreError, match="yesterday"):
        as_utc("yesterday")
