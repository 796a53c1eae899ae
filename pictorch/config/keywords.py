"""Check the keywords of a component against the signature of the function that takes them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pictorch.config.errors import OptionError, nearest


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
            raise OptionError(owner, name, f"expected {describe(hints[name])}, got {value!r}") from None


def describe(annotation: Any) -> str:
    """Return an annotation in the words of a user: `int`, `'A' or 'B'`, `a list of bool`, `int or null`."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return describe(arguments[0]) + bounds(arguments[1:])
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return " or ".join(repr(a) for a in arguments)
    if isinstance(annotation, type) and not arguments:
        return {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number"}.get(
            annotation.__name__, annotation.__name__
        )
    if arguments and "Union" in str(get_origin(annotation)):
        return " or ".join(describe(a) for a in arguments)
    if arguments:
        return "a list of " + describe(arguments[0])
    return str(annotation)


def bounds(metadata: tuple[Any, ...]) -> str:
    """Return the limits that pydantic fields among an annotation's metadata set, as ` above 0` or ` of at least 0`."""
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    limits = [limit for field in metadata for limit in getattr(field, "metadata", [])]
    return "".join(f" {words[k]} {getattr(limit, k):g}" for limit in limits for k in words if hasattr(limit, k))
