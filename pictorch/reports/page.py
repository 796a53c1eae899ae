"""The report as one HTML file: style, chart library, script and values in it, and nothing that comes from outside."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pictorch

ASSETS = Path(__file__).parent / "assets"
LIBRARY = "echarts.min.js"
GENERATOR = '<meta name="generator" content="pictorch report">'
FILES = '<meta name="pictorch-files" content="'


def page(values: Mapping[str, Any], title: str, files: Mapping[str, object]) -> str:
    """Return the page; `files` are the names of those beside it, which a later report in its place removes."""
    style, script, library = (asset(name) for name in ("page.css", "page.js", LIBRARY))
    parts = {
        "policy": policy(scripts=[library, script], style=style),
        "generator": GENERATOR,
        "files": FILES + html.escape(" ".join(files)) + '">',
        "title": html.escape(title),
        "version": html.escape(pictorch.__version__),
        "style": style,
        "library": library,
        "values": embedded(values),
        "script": script,
    }
    # Taken apart before anything is put in: what a run is called cannot be taken for a place of the template.
    pieces = asset("page.html").split("@@")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def without_scripts(title: str, body: str, *, generator: str, further_style: str = "") -> str:
    """Return a page that is read and not worked with: `body` is HTML, the title is text."""
    style = asset("page.css") + asset("evaluation.css") + further_style
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts=[], style=style)}">\n'
        f'<meta name="generator" content="{generator}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def policy(*, scripts: list[str], style: str) -> str:
    """Return the Content-Security-Policy: these scripts, this style, pictures in the page itself; nothing else."""
    allowed = " ".join(hash_of(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {hash_of(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def hash_of(text: str) -> str:
    """Return the source expression that allows an inline element of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(values: Mapping[str, Any]) -> str:
    """Return values as JSON within a script element: no name in them can end it or begin a comment."""
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
