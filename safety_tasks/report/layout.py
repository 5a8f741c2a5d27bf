"""A page that stands alone: one template filled, with styles, scripts, charts and data inside, and its policy.

``base.html.j2`` is the frame: a page's template extends it and fills its blocks. The Content-Security-Policy admits
the page's own styles and scripts by their hashes and nothing else, so no request, no eval and no injected script.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from safety_tasks.report.bundle import chart_bundle
from safety_tasks.report.gate_table import interval, number

STYLES = "page.css"


class Asset(NamedTuple):
    """A script or style sheet and the source by which the page's policy admits it and no other."""

    text: str
    source: str


def asset(text: str) -> Asset:
    """An inline script or style; raises ValueError when it could not stand inside its element."""
    text = text.replace("\r\n", "\n")
    if any(tag in text.lower() for tag in ("</script", "<!--", "<script", "</style")):
        raise ValueError("a script or style holds a tag that would end its element")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Asset(text, f"'sha256-{digest}'")


def render_page(
    template: str,
    *,
    title: str,
    charts: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """A template of this package, filled.

    Args:
        template: Its file name; it extends ``base.html.j2``.
        title: Of the document.
        charts: Vega-Lite specifications by name: each fills the element with that ``data-chart``.
        data: Plain values by name, kept compressed; a script reads them with ``unpack(name)``.
        scripts: File names of further scripts of this package, after ``data.js`` and, with charts, ``charts.js``.
        values: What the template's own blocks ask for.
    """
    styles = template_asset(STYLES)
    own = ("data.js", *(("charts.js",) if charts else ()), *scripts)
    chosen = [*([_bundle()] if charts else []), *(template_asset(name) for name in own)]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(script.source for script in chosen)}",
            f"style-src {styles.source}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        environment()
        .get_template(template)
        .render(
            title=title,
            policy=policy,
            styles=Markup(styles.text),
            scripts=[Markup(script.text) for script in chosen],
            charts=charts or {},
            data={name: packed(value) for name, value in (data or {}).items()},
            **values,
        )
    )


def packed(value: Any) -> str:
    """The value as JSON, gzip and base64: text that no tag can leave, and a fifth of the size."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def template_asset(name: str) -> Asset:
    """A script or style sheet among the templates, by its file name."""
    return asset(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))


@cache
def _bundle() -> Asset:
    return asset(chart_bundle())


@cache
def environment() -> Environment:
    """The templates: everything escaped, a missing field an error."""
    loader = PackageLoader("safety_tasks.report", "templates")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(number=number, interval=interval)
    jinja.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return jinja
