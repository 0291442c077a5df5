"""A conversation as HTML that is safe to keep: for saved notebooks, papermill and nbconvert.

What a model wrote is untrusted.  Markdown is turned into a small set of tags; HTML in it is shown
as text, links go only to http, https and mailto, and images become links, so that opening a
notebook runs nothing and fetches nothing.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from workbench.chat.show import plain
from workbench.chat.transcript import Node
from workbench.widgets.snapshot import model_label

_SCHEMES = ("http", "https", "mailto")
# Controls, and the characters that turn the direction of text: they hide what is written.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_LONGEST_TEXT = 400_000

STYLE = """
.wb-static{font-family:var(--jp-ui-font-family,system-ui,sans-serif);
  font-size:var(--jp-content-font-size1,14px);line-height:1.55;max-width:52rem;
  color:var(--jp-content-font-color1,inherit)}
.wb-static .wb-turn{margin:0 0 1rem;padding:0 0 0 .75rem;
  border-left:3px solid var(--jp-border-color2,#bbb)}
.wb-static .wb-user{border-left-color:var(--jp-brand-color1,#2196f3)}
.wb-static .wb-who{font-size:.85em;color:var(--jp-content-font-color2,#666);margin-bottom:.2rem}
.wb-static .wb-end{font-size:.85em;color:var(--jp-warn-color0,#b26a00)}
.wb-static pre{overflow-x:auto;padding:.6rem;background:var(--jp-layout-color2,#f0f0f0);
  border-radius:4px}
.wb-static table{border-collapse:collapse}
.wb-static td,.wb-static th{border:1px solid var(--jp-border-color2,#bbb);padding:.2rem .5rem}
.wb-static p:last-child{margin-bottom:0}
"""


def visible(text: str) -> str:
    """Return text in which invisible and direction-turning characters show as a sign."""
    return _INVISIBLE.sub("\ufffd", text)


def is_safe_link(url: str) -> bool:
    """Return whether a link may be clicked: http, https or mailto, and nothing hidden in it."""
    if _INVISIBLE.search(url):
        return False
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


class _Renderer(RendererHTML):
    """Renders images as links; everything else is markdown-it's own."""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Return a link with the image's text; nothing is fetched."""
        token = tokens[idx]
        text = self.renderInlineAsText(token.children or [], options, env) or "image"
        url = str(token.attrs.get("src", ""))
        if not is_safe_link(url):
            return html.escape(f"[{text}]")
        shown = html.escape(f"{text} (image at {urlsplit(url).hostname or 'unknown'})")
        return f'<a href="{html.escape(url)}" rel="noopener noreferrer nofollow">{shown}</a>'


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    parser.validateLink = is_safe_link  # type: ignore[method-assign]
    return parser


def markdown_html(text: str) -> str:
    """Return a model's markdown as safe HTML; a very long text is shown as it is written."""
    clean = visible(text)
    if len(clean) > _LONGEST_TEXT:
        return f"<pre>{html.escape(clean)}</pre>"
    rendered: Any = _markdown().render(clean)
    return str(rendered)


def transcript_html(title: str, nodes: Iterable[Node]) -> str:
    """Return the messages of a path as one HTML fragment without scripts, forms or addresses."""
    turns = "".join(_message(node) for node in nodes)
    name = html.escape(visible(title))
    return f'<style>{STYLE}</style><div class="wb-static" aria-label="{name}">{turns}</div>'


def transcript_text(nodes: Iterable[Node]) -> str:
    """Return the messages of a path as plain text."""
    lines = [f"{_who(node)}: {plain(node.message.content)}" for node in nodes]
    return "\n\n".join(lines) or "(no messages yet)"


def _who(node: Node) -> str:
    if node.message.role == "user":
        return "You"
    if node.message.role == "tool":
        return f"Tool {node.message.tool_name}"
    return (model_label(node.facts.model) if node.facts else "") or node.message.role


def _message(node: Node) -> str:
    role, message, facts = node.message.role, node.message, node.facts
    who = _who(node)
    body = markdown_html(message.content) if message.content else ""
    if message.thinking:
        shown = html.escape(visible(message.thinking))
        body = f"<details><summary>Thinking</summary><pre>{shown}</pre></details>{body}"
    for call in message.tool_calls:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        text = html.escape(visible(f"{call.name}({arguments})"))
        body += f"<pre>asks for tool {text}; it was not run</pre>"
    if facts is not None and facts.stop_reason not in ("stop", "tool_calls"):
        reason = facts.error["message"] if facts.error else facts.stop_reason or "unfinished"
        body += f'<div class="wb-end">{html.escape(visible(str(reason)))}</div>'
    kind = "wb-user" if role == "user" else "wb-model"
    head = html.escape(visible(who))
    return f'<div class="wb-turn {kind}"><div class="wb-who">{head}</div>{body}</div>'
