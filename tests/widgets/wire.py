"""The other end of a panel's comm, without a browser."""

from __future__ import annotations

import json
import threading
from typing import Any

import comm


class Wire(comm.DummyComm):
    """A comm that keeps what is published on it, as it travels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.content: list[dict[str, Any]] = []
        self.buffers: list[bytes] = []
        self.news = threading.Condition()
        super().__init__(*args, **kwargs)

    def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **more: Any) -> None:
        """Keep the content of custom messages, as it is now: values may change later."""
        if (data or {}).get("method") == "custom":
            with self.news:
                self.content.append(json.loads(json.dumps(data["content"])))
                self.buffers += map(bytes, more.get("buffers") or ())
                self.news.notify_all()
