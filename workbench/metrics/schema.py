"""The tables of the metrics: columns with type, unit and meaning, and how older rows are read.

A column that OpenTelemetry names has that name with `_` for `.`, or a shorter one and the name in
`otel`.  Durations are seconds, sizes bytes, times UTC.  A value that was not measured is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

SCHEMA_VERSION = 1
"""Version written into every row; raised with every entry of `MIGRATIONS`."""

Type = Literal[
    "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "JSON", "VARCHAR[]", "DOUBLE[]"
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        type: Name of its type in DuckDB.
        unit: `s`, `bytes`, `tokens`, ...; empty where there is none.
        otel: The name OpenTelemetry has for it, or an empty string.
    """

    name: str
    type: Type
    unit: str
    doc: str
    otel: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        doc: What a row is.
        opens: Whether a row may first be written as `open` and again, with its id, when it ends.
        by_content: Whether the id is a hash of the content; then the first row is kept, else the
            last.
    """

    name: str
    columns: tuple[Column, ...]
    doc: str
    opens: bool = False
    by_content: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return a column by its name.

        Raises:
            KeyError: When there is none.
        """
        return {column.name: column for column in self.columns}[name]


@dataclass(frozen=True, slots=True)
class Migration:
    """How rows of older versions are read.

    Attributes:
        version: The first version that has the new form.
        table: The table it changes.
        values: Column to SQL expression over the old columns, for rows below `version`.
        dropped: Old columns that the expressions need, with their types.
    """

    version: int
    table: str
    values: Mapping[str, str]
    dropped: Mapping[str, Type]


MIGRATIONS: tuple[Migration, ...] = ()
"""Oldest first; entries are added and never changed.  A new column needs none: it reads null."""


def _text(name: str, doc: str, otel: str = "") -> Column:
    return Column(name, "VARCHAR", "", doc, otel)


def _count(name: str, doc: str, unit: str = "", otel: str = "") -> Column:
    return Column(name, "BIGINT", unit, doc, otel)


def _seconds(name: str, doc: str, otel: str = "") -> Column:
    return Column(name, "DOUBLE", "s", doc, otel)


def _number(name: str, doc: str, unit: str = "", otel: str = "") -> Column:
    return Column(name, "DOUBLE", unit, doc, otel)


def _flag(name: str, doc: str, otel: str = "") -> Column:
    return Column(name, "BOOLEAN", "", doc, otel)


def _time(name: str, doc: str) -> Column:
    return Column(name, "TIMESTAMP", "UTC", doc)


def _json(name: str, doc: str) -> Column:
    return Column(name, "JSON", "", doc)


def _bytes(name: str, doc: str, otel: str = "") -> Column:
    return Column(name, "BIGINT", "bytes", doc, otel)


_COMMON = (
    _text("id", "Identity of what the row is about; the rows of one id are versions of it."),
    _time("ts", "When it began, or was measured."),
    _count("schema_v", "Version of the schema the row was written with."),
    _text("run_id", "The run it belongs to; sortable by time."),
    _text("session_id", "The kernel, server or command that asked for it."),
    _text("writer_id", "The process that wrote the row: host, process id, random part."),
    _count("seq", "Order of writing; never falls within one writer, however its clock moves."),
)

_TRACE = (
    _text("trace_id", "Trace of W3C trace context, 32 hex digits."),
    _text("span_id", "This span, 16 hex digits."),
    _text("parent_span_id", "The span that asked; for requests that of the client."),
)

_WORK = (
    _text("run_key", "Hash of plan, parameters, inputs, models and options of the run."),
    _text("conversation", "The conversation it belongs to.", "gen_ai.conversation.id"),
    _count("turn", "Turn within the conversation, from 0."),
    _text("speaker", "Who speaks in a dialogue.", "gen_ai.agent.name"),
    _text("item", "Item of the dataset or of a `foreach`."),
    _count("epoch", "Repetition of the item, from 0."),
    _count("attempt", "Attempt at the step or item, from 1."),
    _text("step", "Step of the plan."),
)

_BACKEND = (
    _text("backend", "Name of the backend, as it is configured."),
    _text("backend_version", "Version the backend reported."),
)

REQUESTS = Table(
    "requests",
    (
        *_COMMON,
        *_TRACE,
        *_WORK,
        _text("client_name", "Program that asked, from its own header or the User-Agent."),
        _text("client_version", "Version of that program."),
        _text("client_kind", "`library`, `cli`, `widget` or `foreign`."),
        _text(
            "token_name", "Name of the token it showed; null without one, and for the server's own."
        ),
        _text("priority", "`interactive` or `batch`."),
        *_BACKEND,
        _text("backend_kind", "`llamacpp`, `ollama` or `openai`."),
        _text(
            "gen_ai_operation_name",
            "`chat`, `text_completion` or `embeddings`.",
            "gen_ai.operation.name",
        ),
        _text("gen_ai_provider_name", "Who serves the model.", "gen_ai.provider.name"),
        _text("server_address", "Host of the backend.", "server.address"),
        _count("server_port", "Port of the backend.", otel="server.port"),
        _text(
            "gen_ai_request_model",
            "Model that was asked, as `workbench models` lists it.",
            "gen_ai.request.model",
        ),
        _text(
            "gen_ai_response_model",
            "Model that answered, as its backend calls it.",
            "gen_ai.response.model",
        ),
        _text("model_digest", "Digest of the model; its identity."),
        _text("quantization", "Quantisation of the model's weights, such as `Q4_K_M`."),
        _text("parameter_size", "Size of the model as it is named, such as `7B`."),
        _number(
            "gen_ai_request_temperature",
            "Temperature asked for.",
            otel="gen_ai.request.temperature",
        ),
        _number("gen_ai_request_top_p", "`top_p` asked for.", otel="gen_ai.request.top_p"),
        _number("gen_ai_request_top_k", "`top_k` asked for.", otel="gen_ai.request.top_k"),
        _count("gen_ai_request_seed", "Seed asked for.", otel="gen_ai.request.seed"),
        _count(
            "gen_ai_request_max_tokens",
            "Most tokens to generate.",
            "tokens",
            "gen_ai.request.max_tokens",
        ),
        _flag("gen_ai_request_stream", "Whether the answer was streamed.", "gen_ai.request.stream"),
        Column(
            "gen_ai_request_stop_sequences",
            "VARCHAR[]",
            "",
            "Texts that end the answer.",
            "gen_ai.request.stop_sequences",
        ),
        _count("num_ctx", "Context length in use.", "tokens"),
        _seconds("keep_alive", "How long the model stays; negative is for ever."),
        _text("think", "Thinking asked for: `true`, `false` or a level."),
        _json("options", "All options of the request."),
        _text("options_sha", "SHA-256 of the canonical options."),
        _text("preset_sha", "SHA-256 of the preset that gave the options."),
        _text("prompt_sha", "SHA-256 of the last message of the user."),
        _text("system_sha", "SHA-256 of the system prompt."),
        _text("output_sha", "SHA-256 of the answer, an id in `messages`."),
        Column("messages_sha", "VARCHAR[]", "", "Ids in `messages` of everything that was sent."),
        _count(
            "gen_ai_usage_input_tokens",
            "Tokens of the prompt, cached ones included.",
            "tokens",
            "gen_ai.usage.input_tokens",
        ),
        _count(
            "gen_ai_usage_output_tokens",
            "Tokens of the answer, thinking included.",
            "tokens",
            "gen_ai.usage.output_tokens",
        ),
        _count(
            "gen_ai_usage_cache_read_input_tokens",
            "Tokens of the prompt that came from the backend's cache.",
            "tokens",
            "gen_ai.usage.cache_read.input_tokens",
        ),
        _count(
            "gen_ai_usage_reasoning_output_tokens",
            "Tokens of thinking.",
            "tokens",
            "gen_ai.usage.reasoning.output_tokens",
        ),
        _text("token_source", "`server` when the backend counted, `estimated` when we did."),
        _seconds("queue_wait", "Waiting for its turn."),
        _seconds("load_wait", "Waiting for the model to be loaded."),
        _seconds(
            "gen_ai_response_time_to_first_chunk",
            "From admission to the first piece of the answer or of thinking.",
            "gen_ai.response.time_to_first_chunk",
        ),
        _seconds("time_to_first_answer", "From admission to the first piece after thinking."),
        _seconds("duration", "From admission to the end, as the server saw it."),
        _seconds("time_per_output_chunk_p50", "Median time between two pieces."),
        _seconds("time_per_output_chunk_p99", "99th percentile of the time between two pieces."),
        _count("n_chunks", "Pieces of the answer."),
        Column(
            "chunk_gaps",
            "DOUBLE[]",
            "s",
            "Each time between two reads of the answer; only with `metrics.chunk_gaps`.",
        ),
        _seconds("ollama_total_duration", "Whole time, as the backend measured it."),
        _seconds("ollama_load_duration", "Loading the model, as the backend measured it."),
        _seconds("ollama_prompt_eval_duration", "Reading the prompt, as the backend measured it."),
        _seconds("ollama_eval_duration", "Generating, as the backend measured it."),
        _flag("cold", "Whether the model had to be loaded for it."),
        _flag("from_cache", "Whether the answer came from a cache of ours."),
        _text("status", "`open`, `ok`, `cancelled`, `error`, or `lost` when the writer died."),
        _text("error_type", "Name of the error.", "error.type"),
        _text("error_stage", "`connect`, `queue`, `load`, `prefill`, `stream` or `parse`."),
        _text("error_message", "What the error said."),
        Column(
            "gen_ai_response_finish_reasons",
            "VARCHAR[]",
            "",
            "Why it ended, as the backend said it.",
            "gen_ai.response.finish_reasons",
        ),
        _bytes("vram_bytes", "Memory of the GPU the model held when it ended."),
        _time("ended", "When it ended."),
    ),
    "A request to a model, relayed by the server; written when it is admitted and when it ends.",
    opens=True,
)

RUNS = Table(
    "runs",
    (
        *_COMMON,
        _text("run_key", "Hash of plan, parameters, inputs, models and options."),
        _text("kind", "`interactive`, `papermill`, `plan` or `test`."),
        _text("plan_id", "The plan it carries out."),
        _text("parent_run_id", "The run that started it."),
        _text("notebook", "Path of the notebook."),
        _text("notebook_sha256", "SHA-256 of the notebook."),
        _json("parameters", "Parameters of the run."),
        _text("git_origin", "Address of the repository."),
        _text("git_commit", "Commit that was checked out."),
        _flag("git_dirty", "Whether there were changes that no commit holds."),
        _time("ended", "When it ended."),
        _text(
            "status",
            "`open`, `ok`, `waiting` for an answer, `cancelled`, `error`, or `lost` when the "
            "writer died.",
        ),
        _text("error_type", "Name of the error.", "error.type"),
        _text("error_message", "What the error said."),
        _text("host", "Name of the machine."),
        _text("os", "Operating system and its version."),
        _text("python", "Version of Python."),
        _json("packages", "Versions of the packages."),
        _text("workbench_version", "Version of the workbench."),
        _json("backend_versions", "Name of each backend to its version."),
        _text("gpu_driver", "Version of the GPU driver."),
        _json("tags", "Free names and values."),
    ),
    "An execution of a notebook or plan; its id is the `run_id`.",
    opens=True,
)

MODELS = Table(
    "models",
    (
        *_COMMON,
        *_BACKEND,
        _text("digest", "Digest of the model, equal to the id."),
        _text("name", "Name it was seen under."),
        _text("family", "Architecture, such as `llama`."),
        _text("parameter_size", "Size as it is named, such as `7B`."),
        _count("parameter_count", "Number of parameters."),
        _text("quantization", "Quantisation of the weights, such as `Q4_K_M`."),
        _text("format", "Format of the file, such as `gguf`."),
        _count("context_length", "Longest context it was trained for.", "tokens"),
        _text("template_sha256", "SHA-256 of the chat template."),
        _text("system_sha256", "SHA-256 of its own system prompt."),
        _json("parameters", "Options the model brings."),
        Column("capabilities", "VARCHAR[]", "", "What it can do, such as `tools`."),
        _bytes("size_bytes", "Size of the file."),
        _time("first_seen", "When it was first used."),
    ),
    "A model that was used.",
)

MESSAGES = Table(
    "messages",
    (
        *_COMMON,
        _text("parent_id", "The message before it when it was first seen."),
        _text("role", "`system`, `user`, `assistant` or `tool`."),
        _json("parts", "Its parts; a long text stands in a file and is named by `$blob`."),
        _count("n_chars", "Characters of its text."),
    ),
    "The text of a message, once for each content; its id is the SHA-256 of role and parts.",
    by_content=True,
)

SPANS = Table(
    "spans",
    (
        *_COMMON,
        *_TRACE,
        *_WORK,
        _text("name", "What was done."),
        _text("kind", "`client`, `step`, `tool`, `cell` or `internal`."),
        _time("ended", "When it ended."),
        _seconds("duration", "From beginning to end, by a clock that never moves back."),
        _text(
            "status",
            "`open`, `ok`, `waiting` for an answer, `cancelled`, `error`, or `lost` when the "
            "writer died.",
        ),
        _text("error_type", "Name of the error.", "error.type"),
        _text("error_message", "What the error said."),
        _json("attributes", "Everything else that is known."),
    ),
    "A piece of work of a kernel or run: a plan's step, a tool, a cell, a call of the client.",
    opens=True,
)

EVALUATIONS = Table(
    "evaluations",
    (
        *_COMMON,
        *_WORK,
        _text("request_id", "The request that was scored."),
        _text("request_id_a", "First request of a pair."),
        _text("request_id_b", "Second request of a pair."),
        _text("gen_ai_evaluation_name", "Name of the scorer.", "gen_ai.evaluation.name"),
        _number(
            "gen_ai_evaluation_score_value",
            "The score as a number.",
            otel="gen_ai.evaluation.score.value",
        ),
        _text(
            "gen_ai_evaluation_score_label",
            "The score as a word.",
            "gen_ai.evaluation.score.label",
        ),
        _text("gen_ai_evaluation_explanation", "Why, in words.", "gen_ai.evaluation.explanation"),
        _text("scorer_kind", "`code`, `judge`, `pairwise` or `human`."),
        _text("scorer_version", "Version or hash of the scorer."),
        _text("judge_model", "Model that judged."),
        _text("judge_digest", "Digest of that model."),
        _text("judge_request_id", "The request in which it judged."),
        _text("order", "Order of a pair as the judge saw it: `ab` or `ba`."),
        _text("rubric_sha", "SHA-256 of the instructions to the judge."),
        _text("dataset", "Name of the dataset."),
        _text("cluster", "Items that belong together have the same one."),
    ),
    "A score of one answer, or of a pair.",
)

MODEL_EVENTS = Table(
    "model_events",
    (
        *_COMMON,
        *_BACKEND,
        _text("model", "Name of the model."),
        _text("digest", "Digest of the model."),
        _text(
            "event",
            "`load`, `unload`, `swap`, `evict`, `keep_alive`, `oom`, `verify`, `load_failed` or "
            "`resurrected`.",
        ),
        _text("reason", "Why it was done."),
        _text("requested_by", "Who asked for it."),
        _seconds("duration", "How long it took."),
        _flag("ok", "Whether it was done."),
        _text("error_type", "Name of the error.", "error.type"),
        _text("error_message", "What the error said."),
        _text("verdict", "What was found afterwards, such as `verified`."),
        _bytes("bytes_before", "Memory of the GPU in use before."),
        _bytes("bytes_after", "Memory of the GPU in use after."),
        _bytes("size_bytes", "Size of the loaded model."),
        _bytes("vram_bytes", "Part of it in the memory of the GPU."),
        _count("num_ctx", "Context length it was loaded with.", "tokens"),
        _number("offload_share", "Share of it outside the memory of the GPU.", "0-1"),
        _flag("cold", "Whether the file had not been read before."),
    ),
    "Something that happened to a model in memory.",
)

GPU_SAMPLES = Table(
    "gpu_samples",
    (
        *_COMMON,
        _text("host", "Name of the machine."),
        _text("hw_id", "Identity of the GPU.", "hw.id"),
        _text("hw_name", "Its name.", "hw.name"),
        _text("hw_vendor", "Its maker.", "hw.vendor"),
        _text("backend", "Name of the backend, where a backend reported it."),
        _number("hw_gpu_utilization", "Share of time it was busy.", "0-1", "hw.gpu.utilization"),
        _bytes("hw_gpu_memory_usage", "Memory in use.", "hw.gpu.memory.usage"),
        _bytes("hw_gpu_memory_limit", "Memory it has.", "hw.gpu.memory.limit"),
        _bytes("hw_gpu_memory_free", "Memory that is free.", "hw.gpu.memory.free"),
        _number("temperature_c", "Temperature.", "°C"),
        _number("power_w", "Power drawn.", "W"),
        _json("models", "List of `{name, backend, bytes}` of the models in it."),
        _text("source", "Where the figures came from, such as `nvml`."),
    ),
    "A look at one GPU.",
)

VOTES = Table(
    "votes",
    (
        *_COMMON,
        *_WORK,
        _text("prompt_sha", "SHA-256 of the message that was answered."),
        _text("request_id_a", "Request of the first answer."),
        _text("request_id_b", "Request of the second answer."),
        _text("model_a", "Name of the model of the first answer."),
        _text("model_b", "Name of the model of the second answer."),
        _text("digest_a", "Digest of the model of the first answer."),
        _text("digest_b", "Digest of the model of the second answer."),
        _text("label_a", "What the first model is called in the comparison."),
        _text("label_b", "What the second model is called in the comparison."),
        _json("config_a", "Options, thinking and hash of the system prompt of the first answer."),
        _json("config_b", "The same of the second answer."),
        _text("order", "Order in which they were shown: `ab` or `ba`."),
        _count("order_seed", "Seed of the order in which answers were shown."),
        _flag("blind", "Whether names, order and speed were hidden."),
        _text("verdict", "`a`, `b`, `tie` or `both_bad`."),
        _text("voter", "Who voted."),
    ),
    "A person's choice between two answers.",
)


@dataclass(frozen=True, slots=True)
class Schema:
    """A version of the whole schema."""

    version: int
    tables: Mapping[str, Table]
    migrations: tuple[Migration, ...] = ()


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        table.name: table
        for table in (
            RUNS,
            MODELS,
            REQUESTS,
            MESSAGES,
            SPANS,
            EVALUATIONS,
            MODEL_EVENTS,
            GPU_SAMPLES,
            VOTES,
        )
    }
)
"""Every table by its name."""

SCHEMA = Schema(SCHEMA_VERSION, TABLES, MIGRATIONS)
"""The schema of this version of the workbench."""
