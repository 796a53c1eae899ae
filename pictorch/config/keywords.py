"""Check the keywords of a component against the signature of the function that takes them."""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pictorch.config.errors import OptionError, nearest

LONGEST = 200
LIMITS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


def check_keywords(
    function: Callable[..., Any],
    keywords: Mapping[str, object],
    *,
    owner: str,
    given: frozenset[str] = frozenset(),
) -> None:
    """Raise OptionError unless `function(**keywords)` names known keywords only, with values of the annotated types.

    Types are strict (`1` is not a bool, `"3"` is not an int; an int is a float). `given` names the parameters that
    the caller supplies itself: they are neither expected nor allowed among `keywords`. Required keywords that are
    missing are left to `function`, whose own message can name the valid values.
    """
    hints = get_type_hints(function)
    known = [name for name in inspect.signature(function).parameters if name not in given]
    for name, value in keywords.items():
        if name not in known:
            raise OptionError(owner, name, f"unknown option{nearest(name, known)}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError:
            raise OptionError(owner, name, f"expected {describe(hints[name])}, got {show(value)}") from None


def show(value: object) -> str:
    """Return a value on one line as YAML writes it (null, true, [1, 2], 'text'), cut where it is long."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, float) and not math.isfinite(value):
        text = f".{value}".replace(".-", "-.")
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(show, value))}]"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {show(inner)}" for key, inner in value.items()) + "}"
    else:
        text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def describe(annotation: Any) -> str:
    """Return an annotation in the words of a user: `a whole number`, `'A' or 'B'`, `a list of numbers or null`."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return describe(arguments[0]) + bounds(arguments[1:])
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return " or ".join(show(a) for a in arguments)
    if isinstance(annotation, type) and not arguments:
        return {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number"}.get(
            annotation.__name__, annotation.__name__
        )
    if arguments and "Union" in str(get_origin(annotation)):
        return " or ".join(describe(a) for a in arguments)
    if arguments:
        return "a list of " + re.sub(r"\ba (whole number|number|list)\b", r"\1s", describe(arguments[0]))
    return str(annotation)


def bounds(metadata: tuple[Any, ...]) -> str:
    """Return the limits that pydantic fields among an annotation's metadata set, as ` above 0 and of at most 9`."""
    limits = [limit for field in metadata for limit in getattr(field, "metadata", [])]
    said = [
        f"{words} {limit_text(getattr(limit, k))}"
        for limit in limits
        for k, words in LIMITS.items()
        if hasattr(limit, k)
    ]
    return " " + " and ".join(said) if said else ""


def limit_text(limit: float) -> str:
    """Return a limit as it is written in a configuration: 0 and not 0.0, all the digits of a large one."""
    return str(int(limit)) if limit == int(limit) else str(limit)
