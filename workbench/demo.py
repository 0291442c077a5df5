"""`workbench demo`: the main job, without a browser."""

from __future__ import annotations

from pathlib import Path

import click

from workbench import resources
from workbench.app import connect
from workbench.plans.engine import run_notebook

_QUESTIONS = ("What is the capital of France?", "What is 7 plus 8?")
_OPTIONS = {"temperature": 0, "seed": 1}


def run_demo(output: Path, model: str) -> Path:
    """Stream a chat to the terminal, run the first notebook, and return where it was written.

    Raises:
        RunFailed: When the notebook failed.
        ModelError: When the chat failed.
    """
    wb = connect()
    toy = any(info.toy for info in wb.models() if info.name.removesuffix(":latest") == model)
    click.echo(f"Server: {wb.client.url}")
    click.echo(f"Model: {model}{' (toy)' if toy else ''}\n")
    with wb.session(model, options=_OPTIONS, record=False) as session:
        for question in _QUESTIONS:
            click.echo(f">>> {question}")
            session.ask(question, show=True)
    notebook = resources.notebooks_dir() / "01_chat.ipynb"
    click.echo(f"\nRunning {notebook.name} ...")
    output = output.absolute()
    result = run_notebook(notebook, output, {"model": model, "options": _OPTIONS})
    click.echo(f"{result.cells} cells in {result.elapsed_s:.1f} s")
    click.echo(f"Result: {result.path}")
    click.echo("\nNext: `workbench chat` here, or `workbench lab` for the notebooks.")
    return result.path
