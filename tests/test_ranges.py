"""Each setting and each key of an entry has a range; what is outside is refused at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.config import SETTINGS, convert_value, load_config
from workbench.errors import ConfigError

TEXT = (["5", '""', "[]"], ['"x"'])
BOOL = (["2", '"maybe"', "[]"], ["true", '"off"', "0"])
DAY = (["-0.001", "86400.5", "nan", "inf", '"25h"', "true"], ["0", "86400", '"24h"'])
WAIT = (["0", "-1", "0.0009", "86400.5", "nan", "inf", '"25h"'], ["0.001", "86400", '"24h"'])
YEAR = (["-1", "31536001", "inf", "nan", '"-5m"'], ["0", "31536000", '"1h"'])
SIZE = (["-1", "1125899906842625", "1.5", '"1025TiB"', '"-1GB"'], ["0", '"1024TiB"', "1e9"])
COUNT = (["0", "-1", "1001", "1.5", "true"], ["1", "1000", "2.0"])
PERCENT = (["-1", "101", "0.5"], ["0", "100"])

# Refused and accepted values of each setting, as they stand in the file.
RANGES: dict[str, tuple[list[str], list[str]]] = {
    "data_dir": (["a\0b", "~nobody-of-this-name/x"], ["/x"]),
    "url": (
        ["5", "gpu", "gpu:1", "ftp://gpu", "http://", "http://h:0", "http://h:65536", "http://a@h"],
        ["http://gpu", "https://gpu:65535", "http://[::1]:1/"],
    ),
    "token": (["a b", "\n", "é"], ["!~"]),
    "server.host": (
        ['""', '"http://a"', '"a:80"', '"a/b"', '"a b"', '"[::1]:80"', "0"],
        ['"0.0.0.0"', '"::"', '"[::1]"', '"gpu.lan"'],
    ),
    "server.port": (["-1", "65536", "1e9", "0.5", "true"], ["0", "65535", '"80"']),
    "server.idle_exit_s": YEAR,
    "server.allow_remote": BOOL,
    "server.allowed_hosts": (
        ["[1]", '[""]', '["*"]', '["gpu.lan:80"]', '["http://gpu"]', '["a", "b c"]', "1"],
        ["[]", '["gpu.lan", "[fd00::5]", "fd00::5", "10.0.0.1"]'],
    ),
    "server.allowed_origins": (
        ["[1]", '[""]', '["*"]', '["null"]', '["lab.example"]', '["https://lab/x"]'],
        ["[]", '["https://lab.example:8443/"]', '["vscode-webview://abc"]'],
    ),
    "server.open_ollama_api": BOOL,
    "server.max_body_bytes": (["0", "999", '"17GiB"', "-1"], ["1000", '"16GiB"']),
    "server.max_header_bytes": (["0", "4095", '"2MiB"'], ["4096", '"1MiB"']),
    "server.slow_client_s": (["0", "0.99", "3601", "inf", "nan"], ["1", "3600", '"1h"']),
    "engine.kind": (['"vllm"', '""', "1"], ['"llama-server"', '"xllamacpp"']),
    "engine.llama_server": TEXT,
    "engine.models_dir": (['""', "1", '"~nobody-of-this-name/x"'], ['"/x"', '"x"']),
    "engine.load_timeout_s": WAIT,
    "engine.keep_alive_s": YEAR,
    "engine.max_loaded": COUNT,
    "engine.memory_bytes": SIZE,
    "queue.interactive_wait_s": DAY,
    "queue.batch_wait_s": DAY,
    "queue.concurrency": COUNT,
    "gpu.warn_pct": PERCENT,
    "gpu.warn_bytes": SIZE,
    "gpu.warn_clear_pct": PERCENT,
    "metrics.record_text": (['"some"', "true"], ['"all"', '"none"']),
    "metrics.fsync": BOOL,
    "metrics.retention_days": (
        ['["0"]', '["-1"]', '["36501"]', '["x"]', '["requests="]', '["requests=0"]', "[90]", "90"],
        ["[]", '["1"]', '["36500", "gpu_samples=30"]', '"90"'],
    ),
    "metrics.chunk_gaps": BOOL,
    "metrics.prometheus": BOOL,
    "client.first_token_s": WAIT,
    "client.stall_s": WAIT,
    "client.default_model": TEXT,
}

OLLAMA = {"name": '"a"', "kind": '"ollama"', "url": '"http://h"'}
ALERT = {"name": '"a"', "kind": '"p95"', "limit": "1"}
SHARE = {**ALERT, "kind": '"error_share"'}
MEMORY = {**ALERT, "kind": '"low_memory"'}
TOKEN = {"name": '"a"', "sha256": f'"{"0" * 64}"'}

# Table, the other keys of its entry, the key, refused and accepted values.
ENTRIES: list[tuple[str, dict[str, str], str, list[str], list[str]]] = [
    ("backend", OLLAMA, "name", ['""', '"a b"', '"a@b"', "1"], ['"a.b-c_9"']),
    ("backend", OLLAMA, "kind", ['""', '"vllm"', "1"], ['"openai"']),
    (
        "backend",
        OLLAMA,
        "url",
        ['""', '"h"', '"http://"', '"http://h:0"', '"http://h:65536"', '"http://me:x@h"'],
        ['"https://h:65535"'],
    ),
    ("backend", OLLAMA, "token_env", ["1", "[]", '""', '"sk-1.2"'], ['"X"']),
    ("backend", OLLAMA, "headers_env", ["1", '{ "a b" = "X" }', '{ "A" = "1" }'], ["{}"]),
    (
        "backend",
        OLLAMA,
        "vram",
        ["0", "-1", "24", '"24"', "nan", "inf", '"2000TiB"', "true"],
        ['"64MiB"', '"24GB"', '"1024TiB"'],
    ),
    ("backend", OLLAMA, "swap", ['"never"', "1"], ['"manual"']),
    ("alert", ALERT, "name", ['""', "1"], ['"x"']),
    ("alert", ALERT, "kind", ['"p99"', "1"], ['"p95"']),
    ("alert", ALERT, "limit", ["0", "-1", "nan", "inf", "86401", '"1"', "true"], ["0.1", "86400"]),
    ("alert", SHARE, "limit", ["0", "1.01", "nan", "inf", "-inf"], ["0.01", "1"]),
    ("alert", MEMORY, "limit", ["0", "1.01", "nan", "inf"], ["0.01", "1.0"]),
    ("alert", ALERT, "window", ["0", "0.5", "86401", "nan", "inf", '"x"'], ["1", '"24h"']),
    ("alert", ALERT, "model", ['""', "1"], ['"x@y"']),
    ("alert", ALERT, "backend", ['""', "1", '"nobody"'], ['"embedded"', '"ollama"']),
    ("alert", ALERT, "min_requests", ["0", "-1", "1000001", "1.5", "true"], ["1", "1000000"]),
    ("token", TOKEN, "name", ['""', '"a b"', f'"{"a" * 65}"'], [f'"{"a" * 64}"']),
    ("token", TOKEN, "sha256", ['""', f'"{"0" * 63}"', f'"{"g" * 64}"'], [f'"{"f" * 64}"']),
]


def test_every_setting_has_a_range() -> None:
    """A setting that is added says here what of it is refused."""
    assert {setting.key for setting in SETTINGS} == set(RANGES)


@pytest.mark.parametrize("key", [key for key in RANGES if "." in key])
def test_value_outside_its_range_is_refused_at_its_line(key: str, tmp_path: Path) -> None:
    """What lies below, above or beside the range names file, line and key; its edges are taken."""
    section, name = key.split(".")
    path = tmp_path / "workbench.toml"
    refused, accepted = RANGES[key]
    for value in refused:
        path.write_text(f"[{section}]\n\n{name} = {value}\n")
        with pytest.raises(ConfigError) as caught:
            load_config(flags={"data_dir": tmp_path}, env={})
        assert (str(path), 3, key) == (caught.value.file, caught.value.line, caught.value.key), (
            value
        )
        assert str(caught.value).startswith(f"{path}:3: {key} "), value
    for value in accepted:
        path.write_text(f"[{section}]\n\n{name} = {value}\n")
        assert "workbench.toml" == load_config(flags={"data_dir": tmp_path}, env={}).sources[key]


@pytest.mark.parametrize("key", [key for key in RANGES if "." not in key])
def test_value_outside_the_file_has_a_range(key: str) -> None:
    """What is only set by option or environment is refused by the same rules."""
    setting = next(item for item in SETTINGS if item.key == key)
    refused, accepted = RANGES[key]
    for value in refused:
        with pytest.raises(ValueError, match=f"^{key} must"):
            convert_value(setting, value)
    assert accepted == [str(convert_value(setting, value)) for value in accepted]


@pytest.mark.parametrize(
    ("table", "others", "key", "refused", "accepted"),
    ENTRIES,
    ids=[f"{table}.{key} of {others['kind']}" if "kind" in others else f"{table}.{key}"
         for table, others, key, _, _ in ENTRIES],
)  # fmt: skip
def test_key_of_an_entry_has_a_range(
    table: str,
    others: dict[str, str],
    key: str,
    refused: list[str],
    accepted: list[str],
    tmp_path: Path,
) -> None:
    """The same holds in the entries of lists, where the second of two is the wrong one."""
    path = tmp_path / "workbench.toml"

    def write(value: str) -> int:
        first = "" if table == "alert" else f'[[{table}]]\nname = "first"\n'
        rest = {
            "backend": 'kind = "openai"\nurl = "http://f"\n',
            "token": f"sha256 = {'0' * 64!r}\n",
        }
        lines = [f"{name} = {text}" for name, text in others.items() if name != key]
        text = first + (rest[table] if first else "") + f"[[{table}]]\n" + "\n".join(lines)
        path.write_text(f"{text}\n{key} = {value}\n")
        return path.read_text().count("\n")

    for value in refused:
        line = write(value)
        with pytest.raises(ConfigError) as caught:
            load_config(flags={"data_dir": tmp_path}, env={})
        told = (caught.value.file, caught.value.line, caught.value.key)
        assert (str(path), line, f"{table}.{key}") == told, value
    for value in accepted:
        write(value)
        config = load_config(flags={"data_dir": tmp_path}, env={})
        assert config.backends or config.alerts or config.tokens
