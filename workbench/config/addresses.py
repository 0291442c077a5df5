"""What may stand in an address that the user writes; used for every one of them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit


def holds_login(url: str) -> bool:
    """Whether a name or password stands in an address, with or without `http://`.

    Addresses are shown in errors, logs and by `doctor`.
    """
    return "@" in url.rpartition("://")[2].partition("/")[0]


def is_address(url: str) -> bool:
    """Whether it is `http://name` or `https://name`, and its port one that can be asked."""
    if not re.match(r"https?://[^/]", url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_origin(text: str) -> bool:
    """Whether it is what a browser sends as the origin of a page: scheme, name and port."""
    return re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/@*\s]+/?", text, re.IGNORECASE) is not None


def is_host(text: str) -> bool:
    """Whether it is the name or the address of a machine, without scheme and port."""
    if re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*)", text):
        return True
    try:
        return ipaddress.ip_address(text.strip("[]")).version == 6
    except ValueError:
        return False
