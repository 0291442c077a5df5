"""Made-up rows of the metrics, as a few weeks of several models would leave them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.locks import FileLock
from workbench.metrics.layout import COMPACT_LOCK, DAYS
from workbench.metrics.manifest import Manifest, read_manifest
from workbench.metrics.schema import REQUESTS, SCHEMA
from workbench.metrics.sealing import Sealer
from workbench.metrics.sources import name
from workbench.units import sortable_id

DAYS_MADE = 30
MODELS = 8
FIRST_DAY = "2026-10-01"
LAST_MOMENT = "2026-10-31"

# The columns a local model fills; the others stay null.
_VALUES = {
    "id": "printf('%012d', n) || 'abcdefghijklmn'",
    "ts": f"TIMESTAMP '{FIRST_DAY}' + to_microseconds(n * step + (hash(n) % 1000)::BIGINT)",
    "schema_v": "1::BIGINT",
    "run_id": "'run' || (n // 5000)",
    "session_id": "'session' || (n // 20000)",
    "writer_id": "'host-1-abc'",
    "seq": "n",
    "trace_id": "md5(n::VARCHAR)",
    "span_id": "md5(n::VARCHAR)[:16]",
    "client_name": "['workbench', 'open-webui', 'cline'][1 + (h % 3)::INTEGER]",
    "client_kind": "['library', 'foreign', 'foreign'][1 + (h % 3)::INTEGER]",
    "priority": "['interactive', 'batch'][1 + (h % 2)::INTEGER]",
    "backend": "'ollama'",
    "gen_ai_operation_name": "'chat'",
    "gen_ai_provider_name": "'ollama'",
    "gen_ai_request_model": f"'model' || (h % {MODELS})",
    "gen_ai_response_model": f"'model' || (h % {MODELS})",
    "model_digest": f"sha256('model' || (h % {MODELS}))",
    "gen_ai_request_temperature": "0.7",
    "gen_ai_request_seed": "(h % 1000)::BIGINT",
    "num_ctx": "4096::BIGINT",
    "options": '\'{"temperature": 0.7, "num_ctx": 4096}\'::JSON',
    "prompt_sha": "md5((n + 1)::VARCHAR)",
    "output_sha": "md5((n + 2)::VARCHAR)",
    "gen_ai_usage_input_tokens": "(50 + h % 2000)::BIGINT",
    "gen_ai_usage_output_tokens": "(1 + (h // 7) % 500)::BIGINT",
    "token_source": "'server'",
    "queue_wait": "((h // 11) % 1000) / 10000",
    "load_wait": "CASE WHEN h % 50 = 0 THEN 3.5 ELSE 0 END",
    "gen_ai_response_time_to_first_chunk": "0.05 + ((h // 13) % 1000) / 2000",
    "duration": "0.1 + ((h // 17) % 10000) / 1000",
    "ollama_total_duration": "0.1 + ((h // 17) % 10000) / 1000",
    "ollama_load_duration": "0.01",
    "ollama_prompt_eval_duration": "0.02 + ((h // 19) % 1000) / 5000",
    "ollama_eval_duration": "0.01 + ((h // 7) % 500) / (30 + h % 40)",
    "cold": "h % 50 = 0",
    "status": "CASE WHEN h % 100 = 0 THEN 'error' ELSE 'ok' END",
    "vram_bytes": "(4 + h % 8)::BIGINT * 1073741824",
}


def query(rows: int, day: int) -> str:
    """Return the SQL that makes the requests of one day."""
    daily = rows // DAYS_MADE
    step = DAYS_MADE * 86_400_000_000 // rows
    columns = ", ".join(
        f"({_VALUES.get(c.name, 'NULL')})::{c.type} AS {name(c.name)}" for c in REQUESTS.columns
    )
    return (
        f"SELECT {columns} FROM (SELECT range AS n, hash(range) AS h, {step} AS step "
        f"FROM range({day * daily}, {(day + 1) * daily}))"
    )


def make_store(folder: Path, rows: int) -> None:
    """Fill a store with sealed requests, a file for each day."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / COMPACT_LOCK), TemporaryDirectory() as spill:
        manifest: Manifest = read_manifest(folder)
        sealer = Sealer(folder, manifest, SCHEMA, Path(spill))
        for day in range(DAYS_MADE):
            target = f"{DAYS}/requests/dt=2026-10-{day + 1:02}/{sortable_id()}.parquet"
            sealer.replace([sealer.write(REQUESTS, query(rows, day), target)], [])
        sealer.close()
