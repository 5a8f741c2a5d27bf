"""The page's script: Vega, Vega-Lite and Vega-Embed, inlined by vl-convert, and the lines that start them."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script and the hash by which the page's Content-Security-Policy admits it and no other."""

    text: str
    integrity: str


@lru_cache(maxsize=1)
def chart_script() -> Script:
    """The script that draws every element with ``data-chart``; about 0.9 MB, 2 seconds to bundle, once a process.

    Vega's expressions are interpreted (``ast``), not compiled, so that the page needs no eval. Raises ValueError when
    the bundle could not stand inside a script element.
    """
    import vl_convert

    start = files(__package__).joinpath("templates", "page.js").read_text(encoding="utf-8")
    text: str = vl_convert.javascript_bundle(start).replace("\r\n", "\n")
    if any(ending in text.lower() for ending in ("</script", "<!--", "<script")):
        raise ValueError("the bundle of vl-convert holds a tag that would end its script element")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text, f"sha256-{digest}")
