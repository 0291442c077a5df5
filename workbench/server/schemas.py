"""Bodies of requests: what is decoded, validated and described in the OpenAPI document.

Fields a body has besides these are passed on untouched, as Ollama's own clients expect.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

KeepAlive = float | str | None
Format = str | dict[str, Any] | None
Think = bool | str | None

ModelName = Annotated[str, msgspec.Meta(description="`name`, `name:tag` or `name:tag@backend`.")]


class Options(msgspec.Struct, kw_only=True):
    """Fields that most native requests share."""

    model: ModelName = ""
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive = None


class CalledFunction(msgspec.Struct, kw_only=True):
    """The function of a tool call in Ollama's form."""

    name: str = ""
    arguments: dict[str, Any] | str | None = None


class WireCall(msgspec.Struct, kw_only=True):
    """A tool call in Ollama's form."""

    function: CalledFunction
    id: str | None = None


class ToolFunction(msgspec.Struct, kw_only=True):
    """What a model is told about a function."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, kw_only=True):
    """A function a model may ask for; only the type `function` exists."""

    function: ToolFunction
    type: Literal["function"] = "function"


class WireMessage(msgspec.Struct, kw_only=True):
    """One message in Ollama's form."""

    role: str
    content: str | None = ""
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[WireCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ChatRequest(Options, kw_only=True):
    """`POST /api/chat`; without messages it loads the model, or unloads it with keep_alive 0."""

    messages: list[WireMessage] | None = None
    stream: bool | None = True
    format: Format = None
    tools: list[Tool] | None = None
    think: Think = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class GenerateRequest(Options, kw_only=True):
    """`POST /api/generate`; without a prompt it loads the model, or unloads it."""

    prompt: str | None = ""
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None
    stream: bool | None = True
    format: Format = None
    think: Think = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class EmbedRequest(Options, kw_only=True):
    """`POST /api/embed`; an empty input only loads the model."""

    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None


class EmbeddingsRequest(Options, kw_only=True):
    """`POST /api/embeddings`, Ollama's older form: one prompt, one vector."""

    prompt: str | None = ""


class ShowRequest(msgspec.Struct, kw_only=True):
    """`POST /api/show`."""

    model: ModelName = ""
    name: str | None = None
    verbose: bool | None = None
    system: str | None = None
    options: dict[str, Any] | None = None


class CreateRequest(msgspec.Struct, kw_only=True):
    """`POST /api/create`: a model of another one, of a path, or of uploaded blobs."""

    model: ModelName = ""
    from_: str | None = msgspec.field(default=None, name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[WireMessage] | None = None
    quantize: str | None = None
    stream: bool | None = True


class CopyRequest(msgspec.Struct, kw_only=True):
    """`POST /api/copy`."""

    source: str = ""
    destination: str = ""


class DeleteRequest(msgspec.Struct, kw_only=True):
    """`DELETE /api/delete`."""

    model: ModelName = ""
    name: str | None = None


class PullRequest(msgspec.Struct, kw_only=True):
    """`POST /api/pull`."""

    model: ModelName = ""
    name: str | None = None
    insecure: bool | None = None
    stream: bool | None = True


class LoadRequest(Options, kw_only=True):
    """`POST /workbench/v1/load`; `swap` agrees that others leave, `force` also pinned ones."""

    swap: bool | None = None
    force: bool | None = None


class UnloadRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/unload`; `force` ends the requests that run."""

    model: ModelName = ""
    force: bool | None = None


class PinRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/pin`; `force` pins more than fits into memory."""

    model: ModelName = ""
    force: bool | None = None


class UnpinRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/unpin`."""

    model: ModelName = ""


class PreferRequest(msgspec.Struct, kw_only=True):
    """`PATCH /workbench/v1/models`; what is left out stays as it is, null is the default again."""

    model: ModelName = ""
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    pinned: bool | None = None
    hot: bool | None = None
    keep_alive: KeepAlive = None
    max_idle: KeepAlive = None


class GetRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/pull`."""

    model: ModelName = ""


class RemoveRequest(msgspec.Struct, kw_only=True):
    """`DELETE /workbench/v1/models`."""

    model: ModelName = ""


class AddRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/models/add`: a GGUF file on the server's machine."""

    path: str
    name: str | None = None


class LeaseRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/leases`: these models stay in memory until it ends."""

    models: list[ModelName]
    ttl_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    holder: str | None = None


class HeartbeatRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/leases/{id}`: it lasts from now on."""

    ttl_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class SettingsRequest(msgspec.Struct, kw_only=True):
    """`PATCH /workbench/v1/settings`: names of settings and their new values."""


class StreamOptions(msgspec.Struct, kw_only=True):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class ImageAddress(msgspec.Struct, kw_only=True):
    """OpenAI's `image_url`."""

    url: str


class ContentPart(msgspec.Struct, kw_only=True):
    """A part of a message's content in OpenAI's form: a text or an image."""

    type: str
    text: str | None = None
    image_url: ImageAddress | str | None = None


class OpenAIFunction(msgspec.Struct, kw_only=True):
    """The function of a tool call in OpenAI's form; the arguments are JSON text."""

    name: str = ""
    arguments: str | None = None


class OpenAICall(msgspec.Struct, kw_only=True):
    """A tool call in OpenAI's form."""

    function: OpenAIFunction
    id: str = ""


class OpenAIMessage(msgspec.Struct, kw_only=True):
    """One message in OpenAI's form."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[OpenAICall] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class JSONSchemaFormat(msgspec.Struct, kw_only=True):
    """OpenAI's `json_schema` format."""

    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JSONSchemaFormat | None = None


class OpenAIChatRequest(msgspec.Struct, kw_only=True):
    """`POST /v1/chat/completions`."""

    model: ModelName = ""
    messages: list[OpenAIMessage] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None


class RecordsRequest(msgspec.Struct, kw_only=True):
    """`POST /workbench/v1/records`."""

    table: str
    rows: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=1000)]


class OpenAICompletionRequest(msgspec.Struct, kw_only=True):
    """`POST /v1/completions`."""

    model: ModelName = ""
    prompt: str | list[str] | None = ""
    suffix: str | None = None
    n: Literal[1] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None


class OpenAIEmbeddingRequest(msgspec.Struct, kw_only=True):
    """`POST /v1/embeddings`."""

    model: ModelName = ""
    input: str | list[str] = ""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
