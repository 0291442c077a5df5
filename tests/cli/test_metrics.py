"""The commands that ask, take out, bring in and clean the metrics."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.harness import Cli
from workbench.metrics.journal import JournalWriter
from workbench.metrics.layout import live_files, metrics_dir


@pytest.fixture
def filled(fresh: Cli) -> Cli:
    """A command line whose data folder has two requests of an hour ago."""
    moment = datetime.now(UTC) - timedelta(hours=1)
    with JournalWriter(metrics_dir(fresh.data_dir)) as writer:
        for number, model in enumerate(("parrot", "=owl\x1b[31m")):
            writer.write(
                "requests",
                {
                    "id": f"r{number}",
                    "ts": moment,
                    "gen_ai_request_model": model,
                    "gen_ai_usage_output_tokens": 10,
                    "ollama_eval_duration": 0.5,
                    "duration": 1.0,
                    "status": "ok",
                },
            )
    return fresh


def test_sql_prints_a_table(filled: Cli) -> None:
    """A SELECT is printed as a table, without what could steer the terminal."""
    lines = filled.ok("sql", "SELECT id, gen_ai_request_model AS model FROM requests ORDER BY id")
    assert ["id  model", "r0  parrot"] == lines.splitlines()[:2]
    assert "\x1b" not in lines


def test_sql_prints_json(filled: Cli) -> None:
    """`--json` prints records; a time says UTC, a missing value is null."""
    query = "SELECT id, ts, queue_wait, duration FROM requests ORDER BY id"
    (first, _) = filled.json("sql", query)
    assert {"id": "r0", "queue_wait": None, "duration": 1.0}.items() <= first.items()
    assert first["ts"].endswith("Z")


def test_sql_prints_csv(filled: Cli) -> None:
    """`--csv` prints a header and rows that compute nothing in a spreadsheet."""
    out = filled.ok("sql", "SELECT gen_ai_request_model AS m FROM requests ORDER BY id", "--csv")
    assert [["m"], ["parrot"], ["'=owl\x1b[31m"]] == list(csv.reader(io.StringIO(out)))


def test_sql_reads_stdin(filled: Cli) -> None:
    """`-` stands for what is read from stdin."""
    assert "n\n2\n" == filled.ok("sql", "-", stdin="SELECT count(*) AS n FROM requests")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT nme FROM requests", "line 1, column 8"),
        ("COPY requests TO 'x.csv'", "COPY is not allowed"),
        ("SELECT * FROM '/etc/passwd'", "There is no table"),
    ],
    ids=["column", "copy", "file"],
)
def test_sql_tells_mistakes(filled: Cli, query: str, said: str) -> None:
    """A wrong or refused query is one line on stderr, and the exit code is 1."""
    done = filled.run("sql", query)
    assert (1, "") == (done.returncode, done.stdout)
    assert said in done.stderr
    assert 1 == done.stderr.count("\n")


def test_sql_is_given_up(filled: Cli) -> None:
    """`--timeout` ends a query that takes too long."""
    query = "SELECT sum(hash(a.range + b.range) % 7) FROM range(100000000) a, range(100000000) b"
    done = filled.run("sql", query, "--timeout", "0.2")
    assert 1 == done.returncode
    assert "given up" in done.stderr


def test_metrics_shows_a_summary(filled: Cli) -> None:
    """The summary tells requests, tokens and latency of each model."""
    text = filled.ok("metrics")
    assert [] == [word for word in ("Throughput", "Latency", "parrot") if word not in text]
    report = filled.json("metrics", "--since", "7d")
    assert [20.0, 20.0] == [row["tokens_per_s"] for row in report["throughput"]]
    assert report["size_bytes"] > 0


def test_metrics_of_another_time_are_none(filled: Cli) -> None:
    """`--since` leaves older requests out; what is no time is refused."""
    assert [] == filled.json("metrics", "--since", "1m")["throughput"]
    assert 2 == filled.run("metrics", "--since", "soon").returncode


def test_metrics_without_a_store(fresh: Cli) -> None:
    """Before anything was measured there is a summary, and no folder is made."""
    assert [] == fresh.json("metrics")["throughput"]
    assert not metrics_dir(fresh.data_dir).exists()


def test_the_report(filled: Cli, tmp_path: Path) -> None:
    """`--format html` writes one page with the charts, and replaces nothing unasked."""
    out = tmp_path / "report.html"
    filled.ok("export", str(out), "--format", "html", "--since", "7d")
    assert "<h1>Model metrics</h1>" in out.read_text(encoding="utf-8")
    assert 2 == filled.run("export", str(out), "--format", "html").returncode
    assert 2 == filled.run("export", str(out), "--format", "html", "--table", "runs").returncode
    filled.ok("export", str(out), "--format", "html", "--overwrite")


def test_export_and_import(filled: Cli, tmp_path: Path) -> None:
    """What is exported can be imported into another store, and nothing is overwritten."""
    out, other = str(tmp_path / "out"), str(tmp_path / "other")
    assert "requests: 2 rows" in filled.ok("export", out, "--table", "requests", "--since", "7d")
    assert 1 == filled.run("export", out).returncode
    assert "requests: 2 rows" in filled.ok("export", out, "--format", "csv", "--overwrite")
    assert "requests: 2 rows" in filled.ok("import", out, "--folder", other)
    query = "SELECT count(*) AS n FROM requests"
    assert [{"n": 2}] == filled.json("sql", query, "--folder", other)
    mistyped = filled.run("sql", query, "--folder", f"{other}x")
    assert 2 == mistyped.returncode
    assert "does not exist" in mistyped.stderr


def test_clean_seals_and_forgets(filled: Cli) -> None:
    """Finished files are sealed; rows older than the retention are forgotten."""
    report = filled.json("clean")
    assert (2, 1, 0) == (report["rows"], report["live_files"], report["expired_rows"])
    assert "merged" in filled.ok("clean")
    with JournalWriter(metrics_dir(filled.data_dir)) as writer:
        writer.write("votes", {"ts": datetime.now(UTC) - timedelta(days=9)})
    config = filled.data_dir / "workbench.toml"
    config.write_text('[metrics]\nretention_days = ["votes=7"]\n', encoding="utf-8")
    assert 1 == filled.json("clean")["expired_rows"]
    assert [{"n": 2}] == filled.json("sql", "SELECT count(*) AS n FROM requests")


def test_clean_refuses_a_wrong_setting(filled: Cli) -> None:
    """A retention for a table that there is not is told, and nothing is done."""
    config = filled.data_dir / "workbench.toml"
    config.write_text('[metrics]\nretention_days = ["vote=7"]\n', encoding="utf-8")
    done = filled.run("clean")
    assert 1 == done.returncode
    assert "'votes'" in done.stderr
    assert 1 == len(live_files(metrics_dir(filled.data_dir), "requests"))


def test_problems_are_told(filled: Cli) -> None:
    """A file that is not ours is named on stderr, and in the JSON."""
    (metrics_dir(filled.data_dir) / "live/requests/notes.txt").write_text("", encoding="utf-8")
    done = filled.run("metrics")
    assert "left out: live/requests/notes.txt" in done.stderr
    document = json.loads(filled.ok("metrics", "--json"))
    assert ["live/requests/notes.txt"] == [problem["file"] for problem in document["problems"]]


def test_doctor_tells_size_and_problems(filled: Cli) -> None:
    """`doctor` shows where the metrics are, how large, and which files are left out."""
    folder = metrics_dir(filled.data_dir)
    (folder / "live/requests/notes.txt").write_text("", encoding="utf-8")
    report = filled.json("doctor")
    assert str(folder) == report["metrics"]["folder"]
    assert report["metrics"]["size_bytes"] > 0
    told = [p["message"] for p in report["problems"] if p["name"] == "metrics"]
    assert ["live/requests/notes.txt is left out: its name is not one of ours."] == told
