"""A `llama-server` for the tests: its command line and environment, the wheel's engine.

The real binary is not in any package index; this takes the arguments that the real one takes, and
refuses others in its words.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any, NoReturn

import xllamacpp

from workbench.server.engine.worker import flush_log


class Parser(argparse.ArgumentParser):
    """Refuses unknown arguments in the words of llama.cpp."""

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with code 1."""
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = Parser(allow_abbrev=False)
    for name in ("--model", "--alias", "--host", "--mmproj", "--chat-template"):
        parser.add_argument(name)
    parser.add_argument("--pooling", choices=["none", "mean", "cls", "last", "rank"])
    for name in ("port", "ctx-size", "batch-size", "ubatch-size", "threads", "threads-batch"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("--parallel", "--main-gpu", "--cache-ram", "--n-gpu-layers"):
        parser.add_argument(name, type=int)
    for name in ("--jinja", "--no-webui", "--offline", "--embeddings"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args()


def serve(arguments: argparse.Namespace) -> Any:
    """Return the engine's server for the arguments."""
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.alias}
    params.hostnames = [arguments.host]
    params.port = arguments.port
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.ui = not arguments.no_webui
    params.n_ctx = arguments.ctx_size
    params.n_batch = arguments.batch_size
    params.n_ubatch = arguments.ubatch_size
    params.n_parallel = arguments.parallel
    params.cpuparams.n_threads = arguments.threads
    params.cpuparams_batch.n_threads = arguments.threads_batch
    params.cache_ram_mib = arguments.cache_ram
    params.cache_prompt = os.environ["LLAMA_ARG_CACHE_PROMPT"] != "0"
    return xllamacpp.Server(params)


if __name__ == "__main__":
    wanted = parsed()
    if os.environ.get("FAKE_HANG"):
        signal.pause()
    try:
        server = serve(wanted)
    except RuntimeError:
        flush_log()
        sys.exit(1)
    signal.pause()
