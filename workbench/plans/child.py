"""Code of a plan in a child process: its own session and folder, limits, a clean environment.

These are limits, no sandbox: the code runs as the user who started the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import PlanError, ReplayMismatch, StepFailed, StepTimedOut
from workbench.plans import exchange
from workbench.plans.current import told
from workbench.plans.kinds.base import StepContext
from workbench.plans.offspring import end_group, end_tree
from workbench.plans.streams import KeptStream

FILES = "files"
"""Folder of an attempt in which its code runs; what it writes there is committed with the step."""

_IO = ".io"
_PIPES_S = 2.0
_WHERE_S = 2.0
_LOOK_S = 0.02
_FRAME = re.compile(r'File "(.+)", line (\d+) in (\S+)')
_KEPT_NAMES = frozenset(
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP PYTHONPATH VIRTUAL_ENV "
    "CONDA_PREFIX LD_LIBRARY_PATH DYLD_LIBRARY_PATH SSL_CERT_FILE SSL_CERT_DIR SYSTEMROOT "
    "IPYTHONDIR JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTER_PATH "
    "CUDA_VISIBLE_DEVICES CUDA_HOME WORKBENCH_DATA_DIR WORKBENCH_CONFIG".split()
)
_KEPT_BEGINNINGS = ("LC_", "XDG_", "OMP_", "OPENBLAS_", "MKL_")


@dataclass(frozen=True, slots=True)
class ChildTask:
    """What a child process does.

    Attributes:
        what: `call`, `tests` or `notebook`.
        arguments: JSON values for it.
        inputs: Name to value; secrets stay names.
        outputs: Name to form, for what comes back.
    """

    what: str
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, str]


def clean_environment() -> dict[str, str]:
    """Return what a child process may know of this one's environment: no tokens, no secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT_BEGINNINGS)
    }


async def run_child(context: StepContext, task: ChildTask) -> dict[str, Any]:
    """Carry out a task in a child process and return its outputs by name.

    The wall time is the step's `timeout_s`.  However it ends, nothing that it started is left.

    Raises:
        StepFailed: When the code failed, took too long or ended its process; with its traceback.
        ReplayMismatch: When it asked a model what the tape does not hold.
    """
    io = context.work_dir / _IO
    environment = _environment(context)
    secrets = {
        name: value["env"]
        for name, value in task.inputs.items()
        if isinstance(value, Mapping) and set(value) == {"env"} and value["env"] in environment
    }
    try:
        await asyncio.to_thread(_prepare, context, task, secrets)
        hidden = [environment[name] for name in secrets.values()]
        status = await _carry_out(context, environment, hidden)
        return await asyncio.to_thread(_result, context, status, hidden)
    except PlanError as exc:
        if isinstance(exc, StepFailed | ReplayMismatch):
            raise
        raise StepFailed(context.step.id, exc.message, hint=exc.hint) from exc
    finally:
        _tell_connections(context, io / "network")
        shutil.rmtree(io, ignore_errors=True)
        with contextlib.suppress(OSError):
            (context.work_dir / FILES).rmdir()  # only when nothing was written


def _environment(context: StepContext) -> dict[str, str]:
    return {
        **clean_environment(),
        # Sets and their like come in the same order every time.
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        "WORKBENCH_HEADLESS": "1",
        **context.environment(),
        **told(
            {
                "id": context.step.id,
                "run_id": context.run_id,
                "key": context.step_key,
                "attempt": context.attempt,
                "item": context.item,
                "plan_dir": str(context.plan_dir),
            }
        ),
    }


def _prepare(context: StepContext, task: ChildTask, secrets: Mapping[str, str]) -> None:
    io = context.work_dir / _IO
    for folder in (io / "inputs", io / "outputs", context.work_dir / FILES):
        folder.mkdir(parents=True, exist_ok=True)
    values = {**context.variables, **task.inputs}
    entries = {
        name: {"secret": secrets[name]}
        if name in secrets
        else exchange.put(io / "inputs", f"{number}", value)
        for number, (name, value) in enumerate(values.items())
    }
    job = {
        "what": task.what,
        "arguments": dict(task.arguments),
        "inputs": entries,
        "variables": [name for name in context.variables if name not in task.inputs],
        "outputs": dict(task.outputs),
        "step": context.step.id,
        "plan_dir": str(context.plan_dir),
    }
    (io / "job.json").write_text(json.dumps(job, ensure_ascii=False), encoding="utf-8")


async def _carry_out(
    context: StepContext, environment: Mapping[str, str], hidden: list[str]
) -> int | None:
    """Run the process to its end and return its status; `None` when the time was over."""
    async with _process(context, environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            asyncio.create_task(_pump(process.stdout, context.work_dir / "stdout.txt", hidden)),
            asyncio.create_task(_pump(process.stderr, context.work_dir / "stderr.txt", hidden)),
        ]
        try:
            async with asyncio.timeout(context.step.timeout_s):
                await process.wait()
        except TimeoutError as exc:
            seconds = context.step.timeout_s or 0.0
            where = await _where(context, process.pid)
            raise StepTimedOut(
                context.step.id,
                f"it took longer than {seconds:g} s and was ended{where}",
                hint="Raise the step's timeout, or let it do less.",
            ) from exc
        finally:
            end_tree(process.pid) if process.returncode is None else end_group(process.pid)
            await asyncio.wait(pumps, timeout=_PIPES_S)
            for pump in pumps:
                pump.cancel()
        return process.returncode


async def _where(context: StepContext, pid: int) -> str:
    """Ask the process where it is; returns the innermost line of the plan's code, if it tells."""
    file = context.work_dir / _IO / "where"
    if not file.exists():
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    text, due = "", asyncio.get_running_loop().time() + _WHERE_S
    while not text.endswith("\n") and asyncio.get_running_loop().time() < due:
        await asyncio.sleep(_LOOK_S)
        text = await asyncio.to_thread(file.read_text, "utf-8", "replace")
    for name, line, function in _FRAME.findall(text):
        path = Path(name)
        if name == f"<code of {context.step.id}>" or path.is_relative_to(context.plan_dir):
            return f"; it was in {function} ({path.name}, line {line})"
    return ""


@contextlib.asynccontextmanager
async def _process(
    context: StepContext, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    # The child ends itself when this pipe closes, which it does however this process ends.
    watched, held = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "workbench.plans.child_main"),
            *(str(context.work_dir / _IO), str(watched)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=context.work_dir / FILES,
            env=dict(environment),
            pass_fds=(watched,),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # Reaped even when this task is cancelled again.
            await asyncio.shield(process.wait())
            process._transport.close()  # type: ignore[attr-defined]
    finally:
        os.close(watched)
        os.close(held)


async def _pump(stream: asyncio.StreamReader, path: Path, hidden: list[str]) -> None:
    """Keep what a stream brings; what cannot be kept is still read, or its writer would wait."""
    kept: KeptStream | None = KeptStream(path, hidden)
    try:
        while chunk := await stream.read(65536):
            try:
                if kept is not None:
                    kept.feed(chunk)
            except OSError:
                kept = None
    finally:
        with contextlib.suppress(OSError):
            if kept is not None:
                kept.close()


def _result(context: StepContext, status: int | None, hidden: list[str]) -> dict[str, Any]:
    """Read what the child says; what it wrote as `error` is raised."""
    io, step_id = context.work_dir / _IO, context.step.id
    try:
        said = json.loads((io / "result.json").read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise StepFailed(
            step_id, f"its process {_ending(status)} and gave no result{_last_words(context)}"
        ) from exc
    error = said.get("error")
    if error is None:
        return {name: exchange.get(io / "outputs", e) for name, e in said["outputs"].items()}
    if error["type"] == "ReplayMismatch":
        raise ReplayMismatch(error["fields"].get("reason") or error["message"])
    text = error["text"]
    for secret in filter(None, hidden):
        text = text.replace(secret, "***")
    raise StepFailed(step_id, text, hint=error.get("hint"))


def _ending(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended itself (exit {status})"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _last_words(context: StepContext) -> str:
    with contextlib.suppress(OSError):
        lines = (context.work_dir / "stderr.txt").read_text("utf-8", "replace").splitlines()
        return ": " + " | ".join(line.strip() for line in lines[-3:] if line.strip())
    return ""


def _tell_connections(context: StepContext, path: Path) -> None:
    for address in _addresses(path):
        context.not_replayable(
            f"step {context.step.id} connected to {address} outside of the workbench"
        )


def _addresses(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from dict.fromkeys(path.read_text("utf-8", "replace").splitlines())
