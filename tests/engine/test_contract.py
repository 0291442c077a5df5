"""The pinned engine is the one this code was measured with."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import xllamacpp

from workbench.server.engine import worker
from workbench.server.engine.spec import EngineSpec

ROOT = Path(__file__).parents[2]
ENGINE_BINARY = Path(xllamacpp.__file__).with_name("xllamacpp.abi3.so")

FULL = EngineSpec(
    model_path=Path("model.gguf"),
    alias="a:latest",
    n_ctx=64,
    n_threads=1,
    mmproj_path=Path("mmproj.gguf"),
    n_gpu_layers=3,
    chat_template="{{ messages }}",
    embedding=True,
    pooling="mean",
    use_mmap=False,
    n_parallel=2,
    llama_server_path=Path("llama-server"),
)


def test_version_is_the_pinned_one() -> None:
    """The installed engine is exactly the one that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = [line for line in project["dependencies"] if line.startswith("xllamacpp")]
    assert pin == f"xllamacpp=={version('xllamacpp')}"


def test_every_parameter_exists_and_is_taken() -> None:
    """The engine's parameter object takes each value that the worker sets, and keeps it."""
    settings = FULL.worker_settings(host="127.0.0.1", port=0, key="k")
    params = worker.common_params(settings)
    assert [
        settings["model_path"],
        settings["mmproj_path"],
        {"a:latest"},
        ["127.0.0.1"],
        ["k"],
        (128, 512, 512, 2, 1, 1, 3),
        (False, False, 0, False, 0, 0.0, False),
        xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE,
        xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
        (True, "{{ messages }}", True),
    ] == [
        params.model.path,
        params.mmproj.path,
        params.model_alias,
        params.hostnames,
        params.api_keys,
        (
            params.n_ctx,
            params.n_batch,
            params.n_ubatch,
            params.n_parallel,
            params.cpuparams.n_threads,
            params.cpuparams_batch.n_threads,
            params.n_gpu_layers,
        ),
        (
            params.ui,
            params.cache_prompt,
            params.cache_ram_mib,
            params.cache_idle_slots,
            params.n_ctx_checkpoints,
            params.slot_prompt_similarity,
            params.fit_params,
        ),
        params.load_mode,
        params.pooling_type,
        (params.embedding, params.chat_template, params.offline),
    ]


def test_unknown_parameters_are_refused() -> None:
    """The parameter object refuses names that it does not have, so that the test above bites."""
    with pytest.raises(AttributeError):
        xllamacpp.CommonParams().no_such_parameter = 1


@pytest.mark.parametrize("name", ["listening_address", "__init__"])
def test_server_has(name: str) -> None:
    """The server object has what the worker uses."""
    assert hasattr(xllamacpp.Server, name)


def test_llama_server_knows_every_flag() -> None:
    """The option parser of llama.cpp, which the wheel holds, knows each flag that we pass."""
    binary = ENGINE_BINARY.read_bytes()
    arguments = FULL.llama_server_arguments(host="h.sock", port=0)
    flags = [text for text in arguments if text.startswith("--")]
    unknown = [flag for flag in flags if b"\0" + flag.encode() + b"\0" not in binary]
    assert unknown == []


def test_llama_server_knows_the_variables() -> None:
    """The option parser knows each variable, but for the older spelling of one."""
    binary = ENGINE_BINARY.read_bytes()
    variables = FULL.llama_server_environment(key="k")
    unknown = [name for name in variables if b"\0" + name.encode() + b"\0" not in binary]
    assert unknown == ["LLAMA_ARG_MMAP"]


def test_key_is_not_on_the_command_line() -> None:
    """The key of a llama-server is in its environment only."""
    arguments = FULL.llama_server_arguments(host="h.sock", port=0)
    assert not [text for text in arguments if re.search("key", text)]


def test_worker_imports_only_what_it_serves_with() -> None:
    """The worker imports the standard library and the engine, so that it starts fast."""
    tree = ast.parse(Path(worker.__file__).read_text())
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert {"xllamacpp"} == names - sys.stdlib_module_names
