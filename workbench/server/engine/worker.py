"""The program of one engine process: one model, spoken to over its own HTTP server.

Run by `EngineProcess`, never imported by the server.  It needs the standard library and `xllamacpp`
only, so that a process costs what its model costs.

Protocol: one JSON line of settings on stdin; one JSON line on the private copy of stdout, either
`{"address": ..., "rss_bytes": ...}` or `{"error": reason}`; then it stays until stdin closes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from typing import Any

PR_SET_PDEATHSIG = 1
LOG_WAIT_S = 0.3


def main() -> None:
    """Read the settings, serve the model, leave when stdin closes."""
    # C++ prints to fd 1 as it likes (an abort prints a backtrace there); the answer has its own fd.
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.buffer.readline())
    die_with_parent(int(settings["parent_pid"]))
    if "exec" in settings:
        _become(settings["exec"])
    threading.Thread(target=_leave_when_stdin_closes, daemon=True).start()
    try:
        server = _serve(settings)
    except Exception as exc:
        flush_log()
        _answer(answer_fd, {"error": str(exc) or type(exc).__name__})
        os._exit(1)
    _answer(answer_fd, {"address": server.listening_address, "rss_bytes": _rss_bytes()})
    threading.Event().wait()


def die_with_parent(parent_pid: int) -> None:
    """Ask Linux to kill this process when the thread that spawned it ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # The parent ended before the call above, so the signal will never come.
        os._exit(1)


def _become(arguments: list[str]) -> None:
    # The parent-death signal survives execve; a preexec_fn in a threaded parent can deadlock.
    try:
        os.execv(arguments[0], arguments)
    except OSError as exc:
        print(f"E cannot execute {arguments[0]}: {exc.strerror}", file=sys.stderr, flush=True)
        os._exit(126)


def flush_log() -> None:
    """Wait until everything that the engine logged is printed.

    Its log has a thread of its own, which ends with the process: under load, one failed load in ten
    lost the line that says why (measured).
    """
    import xllamacpp

    try:
        library = ctypes.CDLL(sys.modules["xllamacpp.xllamacpp"].__file__ or xllamacpp.__file__)
        log_main = library._Z15common_log_mainv
        flush = library._Z16common_log_flushP10common_log
    except (KeyError, OSError, AttributeError):
        # A wheel that hides its symbols, or names them otherwise.
        time.sleep(LOG_WAIT_S)
        return
    log_main.restype = ctypes.c_void_p
    flush.argtypes = [ctypes.c_void_p]
    flush.restype = None
    flush(log_main())


def _leave_when_stdin_closes() -> None:
    # os.read, not sys.stdin: a buffered reader holds a lock that ends the interpreter badly.
    while os.read(0, 4096):
        pass
    # Not through the engine's own end: that waits, with the interpreter's lock, for an answer in
    # flight that nobody reads any more.  The system frees everything at once.
    os._exit(0)


def _answer(fd: int, message: dict[str, Any]) -> None:
    try:
        os.write(fd, json.dumps(message).encode() + b"\n")
    except OSError:
        os._exit(1)  # Nobody waits for the answer.
    os.close(fd)


def _rss_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    return xllamacpp.Server(common_params(settings))


def common_params(settings: dict[str, Any]) -> Any:
    """Return the engine's parameters for `settings`; the values are clamped by the parent."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model_path"]
    if settings["mmproj_path"]:
        params.mmproj.path = settings["mmproj_path"]
    params.model_alias = {settings["alias"]}
    params.hostnames = [settings["host"]]
    params.port = settings["port"]
    params.api_keys = [settings["key"]]
    params.ui = False
    params.offline = True
    params.n_ctx = settings["n_ctx"] * settings["n_parallel"]
    params.n_batch = settings["n_batch"]
    params.n_ubatch = settings["n_ubatch"]
    params.n_parallel = settings["n_parallel"]
    params.cpuparams.n_threads = settings["n_threads"]
    params.cpuparams_batch.n_threads = settings["n_threads"]
    _switch_caches_off(params)
    _place(params, settings)
    if settings["chat_template"]:
        params.chat_template = settings["chat_template"]
    if settings["embedding"]:
        params.embedding = True
        params.pooling_type = _pooling(settings["pooling"])
    return params


def _switch_caches_off(params: Any) -> None:
    # A warm prompt cache changes the text that a seed gives, and its default may take 8 GiB.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    params.slot_prompt_similarity = 0.0


def _place(params: Any, settings: dict[str, Any]) -> None:
    import xllamacpp

    modes = xllamacpp.llama_load_mode
    params.load_mode = (
        modes.LLAMA_LOAD_MODE_MMAP if settings["use_mmap"] else modes.LLAMA_LOAD_MODE_NONE
    )
    layers = settings["n_gpu_layers"]
    # Fitting loads the model twice; it has nothing to decide when the caller did.
    params.fit_params = layers is None and _has_gpu()
    if layers is not None:
        params.n_gpu_layers = layers
    params.main_gpu = settings["main_gpu"]


def _has_gpu() -> bool:
    import xllamacpp

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(device.get("type") != cpu for device in xllamacpp.get_device_info())


def _pooling(name: str | None) -> Any:
    import xllamacpp

    kinds = xllamacpp.llama_pooling_type
    return getattr(kinds, f"LLAMA_POOLING_TYPE_{(name or 'unspecified').upper()}")


if __name__ == "__main__":
    main()
