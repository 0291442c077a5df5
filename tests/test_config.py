"""Where settings come from, and what is said about those that cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.config import SETTINGS, Config, Setting, convert_value, load_config, ollama_url
from workbench.errors import ConfigError

TomlFile = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> TomlFile:
    """Return a function that writes the toml file of `tmp_path`."""

    def write(text: str) -> Path:
        path = tmp_path / "workbench.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(data_dir: Path, env: dict[str, str] | None = None, **flags: object) -> Config:
    """Read the configuration of a data folder."""
    keys = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(flags={"data_dir": data_dir, **keys}, env=env or {})


def test_every_setting_has_a_value_and_a_source(tmp_path: Path) -> None:
    """Without flags, environment and file every setting has its default and says so."""
    rows = {row["name"]: row for row in load(tmp_path).described()}
    modes = {"swap.embedded", "swap.ollama"}
    assert {setting.key for setting in SETTINGS} | modes == set(rows)
    assert {"default"} == {row["source"] for name, row in rows.items() if name != "data_dir"}


def test_sources_have_an_order(tmp_path: Path, toml: TomlFile) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    env = {"WORKBENCH_PORT": "2"}
    found = [load(tmp_path)]
    toml("[server]\nport = 1\n")
    found += [load(tmp_path), load(tmp_path, env), load(tmp_path, env, server__port=3)]
    assert [
        (11500, "default"),
        (1, "workbench.toml"),
        (2, "environment WORKBENCH_PORT"),
        (3, "flag"),
    ] == [(config.port, config.sources["server.port"]) for config in found]


def test_environment_names_data_folder_and_file(tmp_path: Path, toml: TomlFile) -> None:
    """WORKBENCH_DATA_DIR and WORKBENCH_CONFIG point elsewhere."""
    other = tmp_path / "other"
    path = toml("[client]\nstall_s = 7\n")
    env = {"WORKBENCH_DATA_DIR": str(other), "WORKBENCH_CONFIG": str(path)}
    config = load_config(env=env)
    assert (other, 7.0, path) == (config.data_dir, config.stall_s, config.file)


@pytest.mark.parametrize("setting", [item for item in SETTINGS if item.env], ids=lambda s: s.key)
def test_every_variable_is_read(setting: Setting, tmp_path: Path) -> None:
    """Each environment variable of the table reaches its field."""
    text = {"bool": "yes", "int": "7", "seconds": "2m"}.get(setting.kind, "/somewhere")
    text = setting.choices[-1] if setting.choices else text
    text = {"url": "http://gpu:1", "server.host": "gpu.lan"}.get(setting.key, text)
    env = {setting.env: text}
    config = load_config(env=env) if setting.key == "data_dir" else load(tmp_path, env)
    assert convert_value(setting, text) == getattr(config, setting.field)
    assert f"environment {setting.env}" == config.sources[setting.key]


BAD_FILES = {
    "syntax": ("[server]\nport = = 1\n", 2, "port", "not valid TOML"),
    "unclosed text": ('[server]\nhost = "x\n', 2, "host", "not valid TOML"),
    "cut off": ('[server]\nallowed_hosts = ["x",\n', 3, None, "not valid TOML"),
    "twice": ("[server]\nport = 1\nport = 2\n", 3, "port", "not valid TOML"),
    "text for a number": ('[server]\nport = "x"\n', 2, "server.port", "a port from 0 to 65535"),
    "port too large": ("\n[server]\nport = 70000\n", 3, "server.port", "not 70000"),
    "negative": ("[engine]\nmax_loaded = -1\n", 2, "engine.max_loaded", "whole number"),
    "fraction": ("[engine]\nmax_loaded = 1.5\n", 2, "engine.max_loaded", "whole number"),
    "bool for a number": ("[engine]\nmax_loaded = true\n", 2, "engine.max_loaded", "True"),
    "not a number": ("[client]\nstall_s = nan\n", 2, "client.stall_s", "number of seconds"),
    "without end": ("[client]\nstall_s = inf\n", 2, "client.stall_s", "number of seconds"),
    "no duration": ('[client]\nstall_s = "soon"\n', 2, "client.stall_s", "'10m'"),
    "number for text": ("[server]\nhost = 5\n", 2, "server.host", "must be text"),
    "empty text": ('[server]\nhost = ""\n', 2, "server.host", "must be text"),
    "text for a bool": (
        '[server]\nallow_remote = "maybe"\n', 2, "server.allow_remote", "true or false",
    ),
    "list of numbers": (
        "[server]\nallowed_hosts = [1]\n", 2, "server.allowed_hosts", "list of text",
    ),
    "choice": ('[engine]\nkind = "vllm"\n', 2, "engine.kind", "one of xllamacpp"),
    "unknown key": ("[server]\nprot = 1\n", 2, "server.prot", "'server.port'"),
    "unknown section": ("[sever]\nport = 1\n", 1, "sever", "'server'"),
    "key without section": ("port = 1\n", 1, "port", "'server.port'"),
    "section as a value": ("server = 1\n", 1, "server", "must be a table"),
    "dotted": ('server.port = "x"\n', 1, "server.port", "not 'x'"),
    "inline": ('server = { port = "x" }\n', 1, "server.port", "not 'x'"),
    "same name elsewhere": (
        '[engine]\nkind = "xllamacpp"\n[[backend]]\nname = "a"\nkind = "b"\nurl = "http://c"\n',
        5, "backend.kind", "unknown backend kind 'b'",
    ),
    "backend as a table": ('[backend]\nname = "a"\n', 1, "backend", "[[backend]]"),
    "backends as text": ('backend = ["a"]\n', 1, "backend", "[[backend]]"),
    "backend key": ("[[backend]]\nnam = 1\n", 2, "backend.nam", "'name'"),
    "backend without url": (
        '[[backend]]\nname = "a"\nkind = "ollama"\n', 1, "backend.url", 'needs url = "..."',
    ),
    "second backend": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\n'
        '[[backend]]\nname = "b"\nkind = "ollama"\nurl = "b:1"\n',
        8, "backend.url", "begins with http://",
    ),
    "backend name": (
        '[[backend]]\nname = "a@b"\nkind = "ollama"\nurl = "http://a"\n', 2, "backend.name", "'-'",
    ),
    "two of a name": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\n'
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://b"\n',
        6, "backend.name", "two backends are named 'a'",
    ),
    "name of the engine": (
        '[[backend]]\nname = "embedded"\nkind = "ollama"\nurl = "http://a"\n',
        2, "backend.name", "two backends are named 'embedded'",
    ),
    "token_env": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\ntoken_env = 5\n',
        5, "backend.token_env", "environment variable",
    ),
    "header with its value": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\n'
        'headers_env = { "X-Key" = "s3cret-value" }\n',
        5, "backend.headers_env", "environment variable",
    ),
    "vram": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\nvram = "lots"\n',
        5, "backend.vram", "not a size such as '24GB'",
    ),
    "vram of nothing": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\nvram = 0\n',
        5, "backend.vram", "such as '24GB'",
    ),
    "swap mode": (
        '[[backend]]\nname = "a"\nkind = "ollama"\nurl = "http://a"\nswap = "never"\n',
        5, "backend.swap", "auto, manual, server",
    ),
    "url of the engine": (
        '[[backend]]\nname = "embedded"\nkind = "llamacpp"\nurl = "http://a"\n',
        4, "backend.url", "no url",
    ),
    "two engines": (
        '[[backend]]\nname = "a"\nkind = "llamacpp"\n[[backend]]\nname = "b"\nkind = "llamacpp"\n',
        6, "backend.kind", "one embedded engine",
    ),
    "token as a table": ('[token]\nname = "a"\n', 1, "token", "[[token]]"),
    "token key": ('[[token]]\nnmae = "a"\n', 2, "token.nmae", "'name'"),
    "token instead of its hash": (
        '[[token]]\nname = "a"\nsha256 = "s3cret-value"\n', 3, "token.sha256", "not the token",
    ),
    "token name": (
        '[[token]]\nname = "a b"\nsha256 = "00"\n', 2, "token.name", "letters, digits",
    ),
    "two tokens of a name": (
        f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\n' * 2, 5, "token.name", "two tokens",
    ),
    "size": ('[engine]\nmemory_bytes = "8 apples"\n', 2, "engine.memory_bytes", "'8GB'"),
    "percent": ("[gpu]\nwarn_pct = 101\n", 2, "gpu.warn_pct", "0 to 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_with_file_line_and_key(
    name: str, tmp_path: Path, toml: TomlFile
) -> None:
    """Every kind of mistake names the file, the line, the key and what is wrong."""
    text, line, key, problem = BAD_FILES[name]
    path = toml(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    error = caught.value
    assert (str(path), line, key) == (error.file, error.line, error.key)
    assert problem in str(error)
    assert str(error).startswith(f"{path}:{line}: ")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and a folder of that name, are refused by name."""
    path = tmp_path / "workbench.toml"
    path.write_bytes(b"[server]\nhost = '\xff'\n")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load(tmp_path)
    assert str(path) == caught.value.file
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    """A file that Notepad saved is a file like any other."""
    (tmp_path / "workbench.toml").write_bytes(b"\xef\xbb\xbf[server]\nport = 5\n")
    assert 5 == load(tmp_path).port


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"WORKBENCH_PORT": "many"}, "environment WORKBENCH_PORT"),
        ({"WORKBENCH_PORT": "99999"}, "environment WORKBENCH_PORT"),
        ({"WORKBENCH_ENGINE": "x"}, "environment WORKBENCH_ENGINE"),
        ({"WORKBENCH_OPEN_OLLAMA_API": "perhaps"}, "environment WORKBENCH_OPEN_OLLAMA_API"),
    ],
)
def test_bad_variable_is_refused_by_name(env: dict[str, str], problem: str, tmp_path: Path) -> None:
    """A variable that cannot be used is named; an empty one counts as unset."""
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, env)
    assert 11500 == load(tmp_path, dict.fromkeys(env, "")).port


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        ("::", "http://[::1]:11434"),
        ("[::]:5", "http://[::1]:5"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:7", "http://[::1]:7"),
        ("fd00::1", "http://[fd00::1]:11434"),
        ("http://gpu", "http://gpu:80"),
        ("https://gpu", "https://gpu:443"),
        ("https://gpu:8443", "https://gpu:8443"),
        ("https://gpu/ollama/", "https://gpu:443/ollama"),
        ("gpu.lan", "http://gpu.lan:11434"),
        ("gpu.lan:", "http://gpu.lan:11434"),
        ("gpu.lan:port", "http://gpu.lan:11434"),
        ("gpu.lan:66000", "http://gpu.lan:11434"),
        ("ftp://gpu", "ftp://gpu:11434"),
        (' "gpu:1" ', "http://gpu:1"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(value: str | None, url: str) -> None:
    """Every form of OLLAMA_HOST gives the address a client connects to."""
    assert url == ollama_url({} if value is None else {"OLLAMA_HOST": value})


def test_token_is_never_shown(tmp_path: Path) -> None:
    """Neither the configuration's repr nor its description holds the token."""
    config = load(tmp_path, {"WORKBENCH_TOKEN": "s3cret-value"})
    assert "s3cret-value" == config.token
    assert "s3cret-value" not in repr(config) + str(config.described())


@pytest.mark.parametrize("token", ["s3c\nret", " s3cret", "s3c ret", "жетон", "\udcff"])
def test_token_that_no_header_carries_is_refused_unshown(token: str, tmp_path: Path) -> None:
    """A token that cannot be sent is an error at once, whose text does not hold it."""
    with pytest.raises(ConfigError, match="without spaces") as caught:
        load(tmp_path, {"WORKBENCH_TOKEN": token})
    assert token.strip() not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:secret@host:1/", "me:secret@host", "http://secret@h"])
def test_password_in_an_address_is_refused_unshown(url: str, tmp_path: Path) -> None:
    """An address is shown in errors and by `doctor`: it may hold no password."""
    with pytest.raises(ConfigError, match="WORKBENCH_TOKEN") as caught:
        load(tmp_path, {"WORKBENCH_URL": url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[x", "http://h:99999", "http://h:port", "http://:80"])
def test_backend_address_that_cannot_be_is_refused(
    url: str, tmp_path: Path, toml: TomlFile
) -> None:
    """An address without a name, or with a port that is none, is told with its line."""
    toml(f'[[backend]]\nname = "a"\nkind = "ollama"\nurl = "{url}"\n')
    with pytest.raises(ConfigError, match=r"workbench.toml:4: .*port up to 65535"):
        load(tmp_path)


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a\0b"])
@pytest.mark.parametrize("key", ["data_dir", "engine.models_dir"])
def test_path_that_cannot_be_is_refused(path: str, key: str, tmp_path: Path) -> None:
    """The home of nobody, and what no system takes as a path, are errors and no traceback."""
    with pytest.raises(ConfigError, match="must be a path") as caught:
        load_config(flags={"data_dir": tmp_path, key: path}, env={})
    assert key == caught.value.key


def test_file_is_never_written(tmp_path: Path, toml: TomlFile) -> None:
    """Reading the configuration makes no file and changes none."""
    path = toml("[server]\nport = 1\n")
    before = path.stat().st_mtime_ns
    load(tmp_path)
    assert ([path], before) == ([*tmp_path.iterdir()], path.stat().st_mtime_ns)


def test_backends_are_embedded_then_those_of_the_file(tmp_path: Path, toml: TomlFile) -> None:
    """Named hosts replace the one that is looked for at Ollama's address."""
    assert [("embedded", "found"), ("ollama", "found")] == [
        (backend.name, backend.source) for backend in load(tmp_path).backends
    ]
    toml('[[backend]]\nname = "gpu"\nkind = "ollama"\nurl = "http://gpu:1/"\n')
    assert [("embedded", None), ("gpu", "http://gpu:1")] == [
        (backend.name, backend.url) for backend in load(tmp_path).backends
    ]


def test_backend_says_what_it_is(tmp_path: Path, toml: TomlFile) -> None:
    """Kind, memory, secrets by variable and swap mode are read; secrets themselves never are."""
    toml(
        '[[backend]]\nname = "gpu"\nkind = "ollama"\nurl = "http://gpu:1"\nvram = "24GB"\n'
        '[[backend]]\nname = "vllm"\nkind = "openai"\nurl = "http://gpu:2/v1"\n'
        'token_env = "TOKEN"\nheaders_env = { "X-Key" = "KEY" }\n'
        '[[backend]]\nname = "here"\nkind = "llamacpp"\nswap = "manual"\n'
    )
    here, gpu, vllm = load(tmp_path, {"TOKEN": "s3cret"}).backends
    assert ("here", "llamacpp", None, "manual") == (here.name, here.kind, here.url, here.swap)
    assert (24 * 10**9, "auto") == (gpu.vram_bytes, gpu.swap)
    assert ("http://gpu:2", "server", "TOKEN", (("X-Key", "KEY"),)) == (
        vllm.url,
        vllm.swap,
        vllm.token_env,
        vllm.headers_env,
    )


def test_what_was_changed_at_run_time_stands_above_the_file(tmp_path: Path, toml: TomlFile) -> None:
    """A remembered change beats the file and yields to environment and flag; odd ones are left."""
    toml("[queue]\nconcurrency = 1\n[server]\nport = 1\n")
    kept = {"queue.concurrency": 2, "swap.ollama": "manual", "server.port": 7, "gpu.warn_pct": "x"}
    (tmp_path / "state.json").write_text(json.dumps({"settings": kept}))
    config = load(tmp_path)
    assert (2, "state") == (config.queue_concurrency, config.sources["queue.concurrency"])
    assert ("manual", "state") == (config.backends[1].swap, config.backends[1].swap_source)
    assert (1, 10.0) == (config.port, config.gpu_warn_pct)
    assert 3 == load(tmp_path, queue__concurrency=3).queue_concurrency
    (tmp_path / "state.json").write_text("{")
    assert 1 == load(tmp_path).queue_concurrency


def test_every_description_is_a_sentence() -> None:
    """Each setting says what it does, for the reference page."""
    unclear = [item.key for item in SETTINGS if not re.fullmatch(r"[A-Z].*\.", item.doc)]
    assert not unclear
