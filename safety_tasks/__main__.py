"""``python -m safety_tasks``: path and prompts."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from safety_tasks.errors import SafetyError
from safety_tasks.prompts import BUILTIN, load_prompts

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Safety measurements of language models.")


@app.command()
def path() -> None:
    """Print the folder of our lm_eval tasks, for ``lm_eval --include_path``."""
    typer.echo(Path(__file__).parent / "harness" / "tasks")


@app.command()
def prompts() -> None:
    """List the prompt sets that come with the package."""
    for name, builtin in BUILTIN.items():
        loaded = load_prompts(name)
        typer.echo(f"{name}: {builtin.description}; {loaded.licence}; sha256 {loaded.sha256[:12]}")


def main() -> None:
    """Run the command; an error of ours is one sentence and exit status 2."""
    try:
        app()
    except SafetyError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
