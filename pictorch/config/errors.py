"""The user's mistakes, in words: what was wrong, where, what was expected, and the nearest right thing."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LISTED = 30


class UserError(ValueError):
    """A mistake that the user can mend; the command line prints its message alone and ends with status 2."""


class OptionError(UserError):
    """A wrong option of a component (a model, an optimiser ...).

    `option` is the keyword at fault, or None when the component's name itself is. `detail` says what is wrong
    without naming the option, so that whoever knows where the option was written can put the place in front.
    """

    def __init__(self, owner: str, option: str | None, detail: str) -> None:
        super().__init__(f"{owner}: {option}: {detail}" if option else f"{owner}: {detail}")
        self.owner, self.option, self.detail = owner, option, detail


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return "; did you mean 'a' or 'b'?" for the known names close to `name`, else "; known: a, b, c".

    Of more than MOST_LISTED known names it tells that many, and how many more there are.
    """
    names = list(known)
    lowered = {n.lower(): n for n in names}
    close = [lowered[n] for n in get_close_matches(name.lower(), list(lowered), n=most, cutoff=0.6)]
    if close:
        return "; did you mean " + " or ".join(repr(n) for n in close) + "?"
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return "; known: " + ", ".join(names[:MOST_LISTED]) + more
