"""The page: one HTML file with its style and script in it, which asks nobody but its own server."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pictorch
from pictorch.deploy.server.images import FORMATS
from pictorch.deploy.server.limits import Limits

ASSETS = Path(__file__).parent / "assets"


def page(card: Mapping[str, Any], classes: Sequence[str], limits: Limits) -> bytes:
    """Return the page of a run."""
    values = {
        "card": card,
        "classes": classes,
        "formats": FORMATS,
        "limits": {"bytes": limits.body_bytes, "pixels": limits.pixels, "images": limits.images},
    }
    parts = {
        "title": html.escape(f"{card['name']}: pictorch"),
        "version": html.escape(pictorch.__version__),
        "style": asset("page.css"),
        "values": json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "script": asset("page.js"),
    }
    # Taken apart before anything is put in: what a run is called cannot be taken for a place of the template.
    pieces = asset("page.html").split("@@")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces)).encode()


@cache
def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """Return the source expression that allows an inline element of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# This script, this style, pictures that the visitor or the server gives, and questions to this server; nothing else.
POLICY = (
    f"default-src 'none'; script-src {hash_of(asset('page.js'))}; style-src {hash_of(asset('page.css'))}; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
