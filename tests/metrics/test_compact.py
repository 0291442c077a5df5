from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.metrics.conftest import request_row
from workbench.errors import ConfigError, SchemaTooNew, StoreError
from workbench.locks import FileLock
from workbench.metrics import Metrics
from workbench.metrics.compact import MERGED_DAYS_FROM, MERGED_FROM, compact
from workbench.metrics.journal import JournalWriter
from workbench.metrics.layout import BROKEN, COMPACT_LOCK, MANIFEST, live_files
from workbench.metrics.manifest import read_manifest
from workbench.metrics.retention import parse_retention
from workbench.metrics.spawn import DUE_FILES, compaction_due, spawn_compaction


def write(folder: Path, *numbers: int, **values: object) -> None:
    """Write requests with a writer that is gone afterwards."""
    with JournalWriter(folder) as writer:
        for number in numbers:
            assert writer.write("requests", request_row(number, **values))


def ids(metrics: Metrics) -> list[str]:
    """Return the ids of the requests, in order, each as often as it is seen."""
    return list(metrics.sql("SELECT id FROM requests ORDER BY id")["id"])


def names(*numbers: int) -> list[str]:
    """Return the ids of these requests."""
    return [f"r{number:04}" for number in numbers]


def test_finished_files_are_sealed(folder: Path, metrics: Metrics) -> None:
    """Rows of finished files are in Parquet afterwards, and read the same."""
    write(folder, *range(5))
    before = metrics.sql("FROM requests ORDER BY id")
    report = compact(folder)
    assert report is not None
    assert (5, 1) == (report.rows, report.live_files)
    assert [5] == [file.rows for file in read_manifest(folder).files]
    assert before.equals(metrics.sql("FROM requests ORDER BY id"))


def test_files_that_are_written_to_stay(
    folder: Path, writer: JournalWriter, metrics: Metrics
) -> None:
    """The file a living writer writes to is left alone; its rows are read with the others."""
    write(folder, 1)
    writer.write("requests", request_row(2))
    compact(folder)
    assert [1] == [file.rows for file in read_manifest(folder).files]
    assert names(1, 2) == ids(metrics)


def test_replaced_files_stay_for_a_while(folder: Path, metrics: Metrics) -> None:
    """A sealed live file is removed only after the grace, by a later compaction."""
    write(folder, 1)
    compact(folder)
    assert 1 == len(live_files(folder, "requests"))
    assert names(1) == ids(metrics)
    compact(folder, grace_s=0)
    assert [] == live_files(folder, "requests")
    assert {} == read_manifest(folder).retired
    assert names(1) == ids(metrics)


def test_the_last_row_of_an_id_is_kept(folder: Path, metrics: Metrics) -> None:
    """A row that comes again replaces the sealed one, wherever both are."""
    write(folder, 1, 2)
    compact(folder)
    write(folder, 2, status="error")
    assert ["ok", "error"] == list(metrics.sql("SELECT status FROM requests ORDER BY id")["status"])
    compact(folder)
    assert ["ok", "error"] == list(metrics.sql("SELECT status FROM requests ORDER BY id")["status"])
    assert 2 == sum(file.rows for file in read_manifest(folder).files)


def test_the_same_message_is_kept_once(folder: Path, metrics: Metrics) -> None:
    """A message that another writer writes again adds no row, and rewrites no file."""
    for _ in range(2):
        with JournalWriter(folder) as writer:
            writer.write("messages", {"id": "sha", "role": "user", "parts": []})
        assert 1 == metrics.sql("SELECT count(*) AS n FROM messages")["n"][0]
        compact(folder)
    assert 1 == metrics.sql("SELECT count(*) AS n FROM messages")["n"][0]
    assert 1 == len(read_manifest(folder).of("messages"))


def test_an_open_row_waits_for_its_end(folder: Path, metrics: Metrics) -> None:
    """A row without its end stays open while its writer lives, though its file is sealed."""
    with JournalWriter(folder, max_rows=2) as writer:
        writer.write("requests", request_row(1, status="open"))
        writer.write("requests", request_row(2))
        writer.write("requests", request_row(3))
        compact(folder)
        query = "SELECT status FROM requests ORDER BY id"
        assert ["open", "ok", "ok"] == list(metrics.sql(query)["status"])
        writer.write("requests", request_row(1, status="ok"))
        assert ["ok", "ok", "ok"] == list(metrics.sql(query)["status"])
    compact(folder)
    assert ["ok", "ok", "ok"] == list(metrics.sql(query)["status"])
    assert [] == read_manifest(folder).of("requests", is_open=True)


def test_an_open_row_of_a_dead_writer_is_sealed_as_lost(folder: Path, metrics: Metrics) -> None:
    """Where the writer is gone, a row without its end is sealed as lost; its end still counts."""
    write(folder, 1, status="open")
    compact(folder)
    assert ["lost"] == list(metrics.sql("SELECT status FROM requests")["status"])
    write(folder, 1)
    compact(folder)
    assert ["ok"] == list(metrics.sql("SELECT status FROM requests")["status"])


def test_small_files_are_merged_by_day(folder: Path, metrics: Metrics) -> None:
    """Many sealed files become one for each day."""
    day = 24 * 6
    for number in range(MERGED_FROM):
        write(folder, number, number + day)
        compact(folder)
    files = read_manifest(folder).of("requests")
    assert ["2026-11-20", "2026-11-21"] == sorted(f.name.split("dt=")[1][:10] for f in files)
    assert 2 * MERGED_FROM == len(set(ids(metrics))) == len(ids(metrics))


def test_files_of_one_day_are_merged_again(
    folder: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that was merged several times is one file in the end."""
    monkeypatch.setattr("workbench.metrics.compact.MERGED_FROM", 1)
    for number in range(MERGED_DAYS_FROM):
        write(folder, number)
        compact(folder, grace_s=0)
    assert 1 == len(read_manifest(folder).of("requests"))
    assert names(*range(MERGED_DAYS_FROM)) == ids(metrics)


def test_leftovers_of_killed_compactions_are_removed(folder: Path, metrics: Metrics) -> None:
    """Temporary files, and sealed files that no manifest names, are swept away."""
    write(folder, 1)
    compact(folder)
    (sealed,) = read_manifest(folder).files
    orphan = (folder / sealed.name).with_name("01" * 13 + ".parquet")
    orphan.write_bytes((folder / sealed.name).read_bytes())
    temporary = orphan.with_suffix(".parquet.tmp")
    temporary.write_bytes(b"half")
    assert names(1) == ids(metrics)
    compact(folder)
    assert [False, False] == [orphan.exists(), temporary.exists()]
    assert names(1) == ids(metrics)


def test_only_one_compacts(folder: Path) -> None:
    """While another process compacts, nothing is done."""
    write(folder, 1)
    with FileLock(folder / COMPACT_LOCK):
        assert compact(folder) is None
    assert [] == read_manifest(folder).files


def test_a_store_that_is_not_there_is_nothing_to_do(folder: Path) -> None:
    """Compacting where nobody has written makes nothing."""
    report = compact(folder)
    assert report is not None
    assert 0 == report.rows
    assert not folder.exists()


def test_a_torn_line_is_counted(folder: Path, metrics: Metrics) -> None:
    """The half line of a writer that was killed is skipped and counted; the others stay."""
    write(folder, 1, 2)
    (file,) = live_files(folder, "requests")
    with (folder / file.name).open("ab") as out:
        out.write(b'{"id": "r0003", "ts": "2026-')
    assert names(1, 2) == ids(metrics)
    report = compact(folder)
    assert report is not None
    assert (2, 1) == (report.rows, report.broken_lines)
    assert names(1, 2) == ids(metrics)
    assert ["1 lines could not be read"] == [p.reason for p in metrics.problems()]


@pytest.mark.parametrize(
    "content",
    [os.urandom(4000), b"[1, 2]\nnull\n3\n", b"\n" * 10, "привет\n".encode("utf-16")],
    ids=["random", "no-objects", "empty-lines", "utf-16"],
)
def test_a_broken_file_is_put_aside(folder: Path, metrics: Metrics, content: bytes) -> None:
    """A live file without one readable row is named and kept aside; others are still read."""
    write(folder, 1)
    broken = folder / "live/requests/host-1-abc-000000.v1.jsonl"
    broken.write_bytes(content)
    assert names(1) == ids(metrics)
    compact(folder)
    assert names(1) == ids(metrics)
    if content.strip():
        assert [f"{BROKEN}/live/requests/{broken.name}"] == list(read_manifest(folder).broken)
        assert broken.name in " ".join(problem.file for problem in metrics.problems())


def test_foreign_files_are_named_and_left_alone(folder: Path, metrics: Metrics) -> None:
    """A file that is not ours is never read, moved or removed."""
    write(folder, 1)
    foreign = [folder / "live/requests/notes.txt", folder / "seg/requests/mine.parquet"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"id": "x"}\n', encoding="utf-8")
    compact(folder)
    assert [True, True] == [path.exists() for path in foreign]
    assert names(1) == ids(metrics)
    assert {"live/requests/notes.txt", "seg/requests/mine.parquet"} <= {
        problem.file for problem in metrics.problems()
    }


@pytest.mark.parametrize("content", [None, b"{", b"[]"], ids=["gone", "torn", "other"])
def test_a_lost_manifest_is_made_anew(
    folder: Path, metrics: Metrics, content: bytes | None
) -> None:
    """Without a usable manifest the sealed files are read again, what they hold twice once."""
    for number in range(MERGED_FROM):
        write(folder, number)
        # The replaced files stay, so the rows are on disk in two forms.
        compact(folder)
    path = folder / MANIFEST
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    compact(folder)
    assert names(*range(MERGED_FROM)) == ids(metrics)


def test_a_newer_manifest_is_left_alone(folder: Path) -> None:
    """A manifest of a newer version is neither read nor replaced."""
    write(folder, 1)
    (folder / MANIFEST).write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(SchemaTooNew, match="99"):
        compact(folder)
    assert {"format": 99} == json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def test_a_full_disk_is_told(folder: Path) -> None:
    """A disk that refuses is an error with its reason, and the rows stay where they are."""
    write(folder, 1)
    (folder / "seg").write_text("not a folder", encoding="utf-8")
    with pytest.raises(StoreError, match="could not be sealed"):
        compact(folder)
    assert 1 == len(live_files(folder, "requests"))


def test_old_rows_are_forgotten(folder: Path, metrics: Metrics) -> None:
    """Rows older than the retention leave; younger ones and other tables stay."""
    now = datetime.now(UTC)
    with JournalWriter(folder) as writer:
        writer.write("votes", {"id": "old", "ts": now - timedelta(days=40)})
        writer.write("requests", request_row(1, ts=now - timedelta(days=40)))
    compact(folder)
    with JournalWriter(folder) as writer:
        writer.write("requests", request_row(2, ts=now))
    report = compact(folder, retention_days={"requests": 30})
    assert report is not None
    assert 1 == report.expired_rows
    assert names(2) == ids(metrics)
    assert ["old"] == list(metrics.sql("SELECT id FROM votes")["id"])


def test_long_texts_are_forgotten_with_their_rows(folder: Path) -> None:
    """A text that no row names any more leaves with the rows; one that is named stays."""
    old = datetime.now(UTC) - timedelta(days=40)
    for key, when in (("a", old), ("b", datetime.now(UTC))):
        with JournalWriter(folder) as writer:
            parts = [{"type": "text", "text": key * 70_000}]
            writer.write("messages", {"id": key, "ts": when, "parts": parts})
        compact(folder)
    blobs = list((folder / "blobs").iterdir())
    for blob in blobs:
        os.utime(blob, (old.timestamp(), old.timestamp()))
    compact(folder, retention_days={"*": 30})
    assert ["b" * 70_000] == [p.read_text(encoding="utf-8") for p in (folder / "blobs").iterdir()]


def test_retention_is_read() -> None:
    """A number is for every table, `table=number` for one."""
    assert {"*": 90, "gpu_samples": 7} == parse_retention(["90", "gpu_samples=7"])


@pytest.mark.parametrize("entry", ["gpu_sample=7", "requests=soon", "-3", ""])
def test_a_wrong_retention_is_refused(entry: str) -> None:
    """An unknown table, or no number, is a mistake in the configuration."""
    with pytest.raises(ConfigError):
        parse_retention([entry])


def test_many_finished_files_are_due(folder: Path) -> None:
    """Compaction is due when a table has many finished files."""
    assert not compaction_due(folder)
    with JournalWriter(folder, max_rows=1) as writer:
        for _ in range(DUE_FILES):
            writer.write("votes", {})
        assert not compaction_due(folder)
        writer.write("votes", {})
        assert compaction_due(folder)


def test_a_child_process_compacts(folder: Path, metrics: Metrics) -> None:
    """The child seals the rows and ends with 0."""
    write(folder, 1)
    assert 0 == spawn_compaction(folder, retention_days={"*": 10000}).wait(timeout=100)
    assert [1] == [file.rows for file in read_manifest(folder).files]
    assert names(1) == ids(metrics)


def test_the_command_tells_what_was_done(folder: Path) -> None:
    """`python -m workbench.metrics.compact` prints a report as JSON."""
    write(folder, 1)
    command = [sys.executable, "-m", "workbench.metrics.compact", folder, "--retention", "9999"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1 == json.loads(done.stdout)["rows"]


def test_locks_of_dead_writers_are_removed_late(folder: Path) -> None:
    """A writer's lock goes a day after the writer, and not in its first moments."""
    write(folder, 1)
    (lock,) = (folder / "live").glob("*.lock")
    compact(folder, grace_s=0)
    compact(folder, grace_s=0)
    assert lock.exists()
    day_ago = time.time() - 90_000
    os.utime(lock, (day_ago, day_ago))
    compact(folder)
    assert not lock.exists()
