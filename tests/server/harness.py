"""A real server process for tests: started with private folders, ended and seen to be gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from workbench.runtime import ServerRecord, find_server

_PROGRAM = """
import json, sys
from workbench.config import load_config
from workbench.server.serve import run_server
arguments = json.loads(sys.argv[1])
sys.exit(run_server(load_config(flags=arguments["flags"]), auto=arguments["auto"]))
"""
START_S = 30.0


class ServerProcess:
    """One server; `with ServerProcess(tmp_path) as server: server.http.get("/api/version")`.

    Args:
        data_dir: Its data folder; `workbench.toml` in it is read.
        flags: Settings by key, as on the command line.
        env: Added to the environment.
        auto: Whether it behaves as one that a client started.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        flags: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        auto: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self._flags = {"data_dir": str(data_dir), "server.port": 0, **(flags or {})}
        self._env = {**os.environ, "OLLAMA_HOST": "127.0.0.1:9", **(env or {})}
        self._auto = auto
        self.log_path = data_dir / "test-server.log"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        arguments = json.dumps({"flags": self._flags, "auto": self._auto})
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
            )
        self.record = self._await_record()
        self.http = httpx.Client(
            base_url=self.record.url,
            headers={"Authorization": f"Bearer {self.record.token}"},
            timeout=60.0,
            trust_env=False,
        )
        return self

    def _await_record(self) -> ServerRecord:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            record = find_server(self.data_dir)
            if record is not None and record.pid == self.process.pid:
                return record
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the server did not start: {self.log()}")

    @property
    def url(self) -> str:
        """Its address."""
        return self.record.url

    @property
    def token(self) -> str:
        """Its token."""
        return self.record.token

    def log(self) -> str:
        """What it wrote to its log."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it as SIGTERM does and return its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=START_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the NDJSON lines of a whole response."""
    return [json.loads(line) for line in response.content.split(b"\n") if line.strip()]
