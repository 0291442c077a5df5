"""Running `workbench` as a process of its own, with private folders."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

LIMIT_S = 90.0
_AGAIN_S = 3.0
# Nothing listens on the discard port: a machine's real Ollama must not be found.
NO_OLLAMA = "127.0.0.1:9"


@dataclass
class Cli:
    """The command with an environment and a folder of its own; `env` is laid over this process's.

    Attributes:
        base: The folder it runs in.
    """

    base: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment."""
        return {**os.environ, "OLLAMA_HOST": NO_OLLAMA, "WORKBENCH_PORT": "0", **self.env}

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return Path(self.environment["WORKBENCH_DATA_DIR"])

    def run(
        self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; without `stdin` it reads an empty one."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "workbench", *arguments],
            cwd=self.base,
            env={**self.environment, **(env or {})},
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command that must succeed, and return its stdout."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json` that must succeed, and return its document."""
        return json.loads(self.ok(*arguments, "--json"))

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command with pipes for stdout and stderr."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "workbench", *arguments],
            cwd=self.base,
            env=self.environment,
            text=True,
            **{**pipes, **options},
        )

    def with_env(self, **env: str) -> Cli:
        """Return the same with more environment."""
        return Cli(self.base, {**self.env, **env})


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self.fd, slave = pty.openpty()
        self.process = cli.with_env(TERM="dumb").start(
            *arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._unread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)

    def interrupt_until(self, text: str) -> str:
        """Press Ctrl-C until `text` comes, as a person does, and read to its end.

        A prompt that was just printed may not listen yet: CPython's `input` looks for a signal
        before it waits, and one that comes between the two is seen with the next key only.
        """
        while text not in self._unread:
            self.process.send_signal(signal.SIGINT)
            while select.select([self.fd], [], [], _AGAIN_S)[0] and text not in self._unread:
                self._unread += os.read(self.fd, 4096).decode()
        return self.until(text)

    def until(self, text: str) -> str:
        """Read to the end of `text`, and return what came before and with it."""
        while text not in self._unread:
            self._unread += os.read(self.fd, 4096).decode()
        end = self._unread.index(text) + len(text)
        came, self._unread = self._unread[:end], self._unread[end:]
        return came

    def rest(self) -> str:
        """Read to the end of the command, and return what came."""
        while True:
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                # Linux: nobody has the other side open any more.
                break
            if not piece:
                break
            self._unread += piece.decode()
        self.process.wait(60)
        os.close(self.fd)
        came, self._unread = self._unread, ""
        return came

    def type(self, text: str) -> None:
        """Send a line."""
        os.write(self.fd, f"{text}\n".encode())

    def close(self) -> int:
        """Wait for its end, and return the exit code."""
        code = self.process.wait(60)
        os.close(self.fd)
        return code
