"""What a run is made of: environment, code, inputs, models and server; and its key.

What cannot be known is null, and `unknown` says why.  `run_key` is the hash of everything the
result depends on, so that two runs of one key did the same work; `run_id` names one execution.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench._version import __version__
from workbench.client.api import WorkbenchClient
from workbench.client.memory_values import GpuStatus
from workbench.client.values import ModelInfo, RunningModel, ServerInfo
from workbench.errors import ModelNotFound, ProtocolError, ResponseError, WorkbenchError
from workbench.messages import nearest_names
from workbench.plans.artifacts import digest, file_digest
from workbench.plans.spec import Plan

KEY_VERSION = 1
_GIT_S = 20.0
_NO_SERVER = "no server was asked"


@dataclass(slots=True)
class Identity:
    """What a run is made of.

    Attributes:
        environment: python, implementation, platform, machine, host, workbench, packages (name to
            version) and lock_sha256, the hash of these.
        code: git_commit, git_dirty, git_diff_sha256 (of what no commit holds), git_origin.
        inputs: Parameter to `{path, sha256, bytes}` of each file.
        server: version, backends, backend_versions, gpus, gpu_driver and what was loaded.
        models: Name as the plan has it to what is known of the model.
        missing: Models that no backend holds.
        unknown: Dotted name of what is null to the reason.
    """

    environment: dict[str, Any] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[ModelNotFound] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what `run.json` keeps as `identity`; the models stand there by themselves."""
        named = ("environment", "code", "inputs", "server", "unknown")
        return {name: getattr(self, name) for name in named}

    def run_key(self, plan_hash: str, params: Mapping[str, Any]) -> str:
        """Return the key of a run of a plan with these resolved parameters."""
        return digest(
            {
                "v": KEY_VERSION,
                "plan": plan_hash,
                "params": params,
                "inputs": {name: facts["sha256"] for name, facts in self.inputs.items()},
                "models": {name: facts.get("digest") for name, facts in self.models.items()},
                "environment": self.environment.get("lock_sha256"),
                "python": self.environment.get("python"),
                "commit": self.code.get("git_commit"),
                "diff": self.code.get("git_diff_sha256"),
            }
        )


async def identify(
    plan: Plan,
    params: Mapping[str, Any],
    *,
    models: Iterable[str],
    client: WorkbenchClient | None,
    folder: Path,
) -> Identity:
    """Find out what a run of a plan is made of, before anything of it runs.

    Args:
        params: Resolved.
        models: Names of the models it may ask.
        client: Asks the server; without one nothing is known of it and of the models.
        folder: Where relative paths of the plan start, and whose repository its code is in.

    Raises:
        ConnectionFailed: When the server cannot be reached.
    """
    found = Identity()
    environment, (code, unknown), inputs = await asyncio.gather(
        asyncio.to_thread(environment_facts),
        asyncio.to_thread(code_facts, folder),
        asyncio.to_thread(input_facts, plan, params, folder),
    )
    found.environment, found.code, found.inputs = environment, code, inputs
    found.unknown |= unknown
    await ask_server(found, models, client)
    return found


def environment_facts() -> dict[str, Any]:
    """Return Python, machine and installed packages, with the hash of the packages."""
    packages = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            packages[re.sub(r"[-_.]+", "-", name).lower()] = distribution.version
    ordered = dict(sorted(packages.items()))
    lock = "".join(f"{name}=={version}\n" for name, version in ordered.items())
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "workbench": __version__,
        "packages": ordered,
        "lock_sha256": hashlib.sha256(lock.encode()).hexdigest(),
    }


def code_facts(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the state of the repository that holds a folder, and why what is null is unknown."""
    empty = dict.fromkeys(("git_commit", "git_dirty", "git_diff_sha256", "git_origin"))
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        if commit is None:
            return empty, {"code": "the folder of the plan is in no git repository with a commit"}
        diff = _git(folder, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color")
        origin = _git(folder, "remote", "get-url", "origin")
    except FileNotFoundError:
        return empty, {"code": "git is not installed"}
    except (OSError, subprocess.TimeoutExpired) as exc:
        return empty, {"code": f"git did not answer: {type(exc).__name__}"}
    facts = {
        "git_commit": commit.decode().strip(),
        "git_dirty": None if diff is None else bool(diff),
        "git_diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
        # A password in the address is nobody's business.
        "git_origin": re.sub(r"//[^/@]*@", "//", origin.decode().strip()) if origin else None,
    }
    unknown = {}
    if diff is None:
        unknown["code.git_diff_sha256"] = "git could not compare the files with the commit"
    elif not diff:
        unknown["code.git_diff_sha256"] = "nothing is changed since the commit"
    if not origin:
        unknown["code.git_origin"] = "the repository has no remote of that name"
    return facts, unknown


def _git(folder: Path, *arguments: str) -> bytes | None:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_GIT_S,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def input_facts(plan: Plan, params: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return path, hash and size of each parameter that is a file; one that is gone has none."""
    facts: dict[str, Any] = {}
    for param in plan.params:
        value = params.get(param.name)
        if param.type == "file" and isinstance(value, str):
            path = folder / value
            try:
                facts[param.name] = {
                    "path": value,
                    "sha256": file_digest(path),
                    "bytes": os.stat(path).st_size,
                }
            except OSError:
                facts[param.name] = {"path": value, "sha256": None, "bytes": None}
    return facts


async def ask_server(
    identity: Identity, models: Iterable[str], client: WorkbenchClient | None
) -> None:
    """Add what the server says about itself, the GPUs, what is loaded, and the models."""
    wanted = list(dict.fromkeys(models))
    if client is None:
        identity.unknown |= {"server": _NO_SERVER, "models": _NO_SERVER}
        identity.server = _server_json(None, None, None, ())
        identity.models = {name: {"name": name, "digest": None} for name in wanted}
        return
    info = await _or_reason(identity, "server.info", client.info)
    version = info.version if info else await _or_reason(identity, "server", client.version)
    gpu = await _or_reason(identity, "server.gpus", client.gpu)
    loaded = await _or_reason(identity, "server.loaded", client.loaded)
    identity.server = _server_json(version, info, gpu, loaded)
    if gpu is not None and gpu.driver_version is None:
        identity.unknown["server.gpu_driver"] = gpu.reason or "no GPU with a driver was found"
    if not wanted:
        return
    rows = await _or_reason(identity, "models", client.models)
    listed = rows if rows is not None else await _ollama_models(client)
    for name in wanted:
        row = find_model(listed, name)
        if row is None:
            near = nearest_names(name, [item.name for item in listed])
            identity.missing.append(ModelNotFound(name, nearest=near))
        else:
            identity.models[name] = _model_json(identity, name, row, loaded or ())


async def _or_reason(identity: Identity, name: str, ask: Any) -> Any:
    """Return an answer of the server; `None` and the reason when it has no such question."""
    try:
        return await ask()
    except (ResponseError, ProtocolError) as exc:
        identity.unknown[name] = f"the server does not say: {exc.message}"
        return None


async def _ollama_models(client: WorkbenchClient) -> list[ModelInfo]:
    """Return the models of a plain Ollama."""
    body = await client.request_json("GET", "/api/tags")
    found = []
    for row in body.get("models") or ():
        details = row.get("details") or {}
        found.append(
            ModelInfo(
                name=str(row.get("name", "")),
                kind="ollama",
                digest=str(row.get("digest", "")),
                size_bytes=row.get("size"),
                parameter_size=details.get("parameter_size"),
                quantization=details.get("quantization_level"),
                family=details.get("family"),
                context_length=await _context_of(client, str(row.get("name", ""))),
            )
        )
    return found


async def _context_of(client: WorkbenchClient, model: str) -> int | None:
    try:
        about = (await client.show(model)).get("model_info") or {}
    except WorkbenchError:
        return None
    lengths = [value for name, value in about.items() if name.endswith(".context_length")]
    return int(lengths[0]) if lengths else None


def find_model(rows: Sequence[ModelInfo], name: str) -> ModelInfo | None:
    """Return the model that a name means, as the server reads it; `None` when there is none."""
    bare, _, backend = name.partition("@")
    full = bare if ":" in bare else f"{bare}:latest"
    same = [
        row for row in rows if row.name in (bare, full) and (not backend or row.backend == backend)
    ]
    return next((row for row in same if row.routed), same[0] if same else None)


def _model_json(
    identity: Identity, asked: str, row: ModelInfo, loaded: Sequence[RunningModel]
) -> dict[str, Any]:
    running = next(
        (item for item in loaded if (item.name, item.backend) == (row.name, row.backend)), None
    )
    facts: dict[str, Any] = {
        "name": row.name,
        "backend": row.backend or None,
        "kind": row.kind or None,
        "digest": row.digest or None,
        "quantization": row.quantization,
        "parameter_size": row.parameter_size,
        "family": row.family,
        "context_length": row.context_length,
        "size_bytes": row.size_bytes,
        "loaded": None if running is None else _loaded_json(running),
    }
    for name in ("digest", "quantization", "context_length"):
        if facts[name] is None:
            identity.unknown[f"models.{asked}.{name}"] = "its backend does not say"
    if running is None:
        identity.unknown[f"models.{asked}.loaded"] = "it was not loaded when the run began"
    return facts


def _loaded_json(row: RunningModel) -> dict[str, Any]:
    return {
        "name": row.name,
        "backend": row.backend or None,
        "digest": row.digest or None,
        "state": row.state,
        "context_length": row.context_length,
        "vram_bytes": row.vram_bytes,
        "offload_share": row.offload_share,
        "keep_alive_s": row.keep_alive_s,
        "expires_at": row.expires_at,
        "forever": row.forever,
    }


def _server_json(
    version: str | None,
    info: ServerInfo | None,
    gpu: GpuStatus | None,
    loaded: Sequence[RunningModel] | None,
) -> dict[str, Any]:
    backends = info.backends if info else ()
    devices = gpu.devices if gpu else None
    return {
        "version": version,
        "protocol": info.protocol if info else None,
        "backends": [{"name": b.name, "kind": b.kind, "version": b.version} for b in backends],
        "backend_versions": {b.name: b.version for b in backends if b.version} or None,
        "gpu_driver": gpu.driver_version if gpu else None,
        "gpus": None
        if devices is None
        else [
            {"id": d.id, "name": d.name, "kind": d.kind, "total_bytes": d.total_bytes}
            for d in devices
        ],
        "loaded": None if loaded is None else [_loaded_json(row) for row in loaded],
    }
