"""What an engine process is asked to run, clamped to values that cannot kill or hang it.

Measured with xllamacpp 2026.10.11549: `n_batch` below 2 or below `n_parallel` and `n_threads=0`
abort the process, `n_parallel=0` hangs it, `n_parallel=1000` and `n_threads=10000` exhaust threads,
`n_ctx=2e9` hangs for minutes, a file whose context length is 0 aborts on its first request.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from workbench.errors import ConfigError, LoadFailed
from workbench.server.engine.gguf import GGUFHeader

CONTEXT_STEP: Final = 256
"""The engine rounds a context up to a multiple of this, but not beyond the trained one."""
MAX_CONTEXT: Final = 10_000_000
MIN_BATCH: Final = 2
MAX_BATCH: Final = 16_384
MAX_UBATCH: Final = 512
MAX_EMBEDDING_BATCH: Final = 8_192
MAX_PARALLEL: Final = 64
MAX_GPU_LAYERS: Final = 9_999
SMALL_FILE_BYTES: Final = 64_000_000
"""Below this size one thread is fastest: ggml spins, and two threads fight over a busy core."""

EngineKind = Literal["xllamacpp", "llama-server"]
Pooling = Literal["none", "mean", "cls", "last", "rank"]


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One model as one engine process runs it.

    Attributes:
        model_path: The GGUF file; the first one of a model in several files.
        alias: The name that the engine puts into its answers.
        n_ctx: Context in tokens of each slot; 0 is the trained context.
        n_batch: Tokens of a prompt that are read in one step.
        n_threads: Threads that compute; 0 chooses by the size of the file.
        n_parallel: Slots: requests that run at the same time.
        embedding: Whether the process serves vectors instead of text.
        mmproj_path: The image half of the model.
        use_mmap: Whether the file is mapped instead of read.
        n_gpu_layers: Layers on the GPU; `None` lets the engine fit as many as it can.
        chat_template: Replaces the template in the file.
        pooling: How vectors are pooled; `None` is what the file says, else "mean".
        engine: The program: the `xllamacpp` wheel or a `llama-server` binary.
        llama_server_path: That binary; needed for "llama-server".
    """

    model_path: Path
    alias: str
    n_ctx: int = 0
    n_batch: int = 512
    n_threads: int = 0
    n_parallel: int = 1
    embedding: bool = False
    mmproj_path: Path | None = None
    use_mmap: bool = True
    n_gpu_layers: int | None = None
    main_gpu: int = 0
    chat_template: str | None = None
    pooling: Pooling | None = None
    engine: EngineKind = "xllamacpp"
    llama_server_path: Path | None = None

    @property
    def n_ubatch(self) -> int:
        """Tokens computed at once; an embedding needs its whole text in one such step."""
        return self.n_batch if self.embedding else min(self.n_batch, MAX_UBATCH)

    def clamped(
        self, header: GGUFHeader | None, *, file_bytes: int, cores: int | None = None
    ) -> EngineSpec:
        """Return this spec with every number inside the range that the engine survives.

        Pure, and clamping twice changes nothing.

        Args:
            header: What the file says; `None` when it cannot be read (the engine will say why).
            file_bytes: Size of the model file in bytes.
            cores: Processor cores that may be used; `None` counts them.

        Raises:
            LoadFailed: When the file or the context asked for would kill or hang the engine.
            ConfigError: When "llama-server" is asked for and its path is not known.
        """
        if self.engine == "llama-server" and self.llama_server_path is None:
            raise ConfigError(
                "The engine is llama-server and no such binary was found.",
                key="engine.llama_server",
                hint="Put llama-server on PATH, or set engine.llama_server to its path.",
            )
        n_parallel = _within(self.n_parallel, 1, MAX_PARALLEL)
        n_ctx = self._context(header, n_parallel)
        n_batch = _within(self.n_batch, max(MIN_BATCH, n_parallel), MAX_BATCH)
        if self.embedding:
            n_batch = max(n_batch, _within(n_ctx, 1, MAX_EMBEDDING_BATCH))
        layers = self.n_gpu_layers
        return replace(
            self,
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_threads=self._threads(file_bytes, cores or os.cpu_count() or 1),
            n_parallel=n_parallel,
            n_gpu_layers=None if layers is None or layers < 0 else min(layers, MAX_GPU_LAYERS),
            main_gpu=_within(self.main_gpu, 0, 15),
            pooling=self._pooling(header),
        )

    def _context(self, header: GGUFHeader | None, n_parallel: int) -> int:
        trained = header.context_length if header is not None else None
        if trained is not None and trained < 1:
            raise LoadFailed(self.alias, f"the file says that its context is {trained} tokens long")
        n_ctx = self.n_ctx if self.n_ctx > 0 else (trained or 0)
        # Rounded here, so that the length reported is the length that requests meet.
        n_ctx = -(-n_ctx // CONTEXT_STEP) * CONTEXT_STEP
        if trained is not None:
            n_ctx = min(n_ctx, trained)
        if n_ctx * n_parallel > MAX_CONTEXT:
            raise LoadFailed(
                self.alias,
                f"a context of {n_parallel} x {n_ctx} tokens is too large for the engine",
                hint=f"Set num_ctx so that it is at most {MAX_CONTEXT // n_parallel} tokens.",
            )
        return n_ctx

    def _threads(self, file_bytes: int, cores: int) -> int:
        if self.n_threads > 0:
            return min(self.n_threads, cores)
        return 1 if file_bytes < SMALL_FILE_BYTES else max(1, cores // 2)

    def _pooling(self, header: GGUFHeader | None) -> Pooling | None:
        if not self.embedding or self.pooling is not None or header is None:
            return self.pooling
        # Without pooling the engine gives a vector per token, which no embed API can carry.
        return None if header.pooling_type else "mean"

    def worker_settings(self, *, host: str, port: int, key: str) -> dict[str, Any]:
        """Return the settings line of `worker.py` for the `xllamacpp` engine."""
        return {
            "model_path": str(self.model_path.absolute()),
            "mmproj_path": str(self.mmproj_path.absolute()) if self.mmproj_path else None,
            "alias": self.alias,
            "host": host,
            "port": port,
            "key": key,
            "n_ctx": self.n_ctx,
            "n_batch": self.n_batch,
            "n_ubatch": self.n_ubatch,
            "n_threads": self.n_threads,
            "n_parallel": self.n_parallel,
            "n_gpu_layers": self.n_gpu_layers,
            "main_gpu": self.main_gpu,
            "use_mmap": self.use_mmap,
            "embedding": self.embedding,
            "pooling": self.pooling,
            "chat_template": self.chat_template,
        }

    def llama_server_arguments(self, *, host: str, port: int) -> list[str]:
        """Return the command line of a `llama-server` binary; the key is never part of it."""
        pairs: dict[str, object] = {
            "--model": self.model_path.absolute(),
            "--alias": self.alias,
            "--host": host,
            "--port": port,
            "--ctx-size": self.n_ctx * self.n_parallel,
            "--batch-size": self.n_batch,
            "--ubatch-size": self.n_ubatch,
            "--threads": self.n_threads,
            "--threads-batch": self.n_threads,
            "--parallel": self.n_parallel,
            "--main-gpu": self.main_gpu,
            "--cache-ram": 0,
        }
        if self.n_gpu_layers is not None:
            pairs["--n-gpu-layers"] = self.n_gpu_layers
        if self.mmproj_path is not None:
            pairs["--mmproj"] = self.mmproj_path.absolute()
        if self.chat_template:
            pairs["--chat-template"] = self.chat_template
        if self.embedding and self.pooling:
            pairs["--pooling"] = self.pooling
        flags = ["--jinja", "--no-webui", "--offline"]
        flags += ["--embeddings"] if self.embedding else []
        arguments = [str(self.llama_server_path)]
        for name, value in pairs.items():
            arguments += [name, str(value)]
        return arguments + flags

    def llama_server_environment(self, *, key: str) -> dict[str, str]:
        """Return the variables of a `llama-server` binary.

        Beside the key, which every user could read on a command line, these are the options that
        not every version has: an unknown variable is ignored, an unknown flag is an error.
        """
        environment = {
            "LLAMA_API_KEY": key,
            "LLAMA_ARG_CACHE_PROMPT": "0",
            "LLAMA_ARG_CACHE_IDLE_SLOTS": "0",
            "LLAMA_ARG_CTX_CHECKPOINTS": "0",
        }
        if not self.use_mmap:
            environment |= {"LLAMA_ARG_LOAD_MODE": "none", "LLAMA_ARG_MMAP": "0"}
        return environment


def find_llama_server(setting: str | None = None) -> Path | None:
    """Return the `llama-server` binary: the one of the setting, else the one on PATH.

    Args:
        setting: A path or the name of a command; no other place is looked at then.
    """
    found = shutil.which(os.path.expanduser(setting) if setting else "llama-server")
    return Path(found).absolute() if found else None


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
