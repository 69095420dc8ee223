"""Errors that a user can act on: one line with the value, the rule and the remedy."""

from difflib import get_close_matches

MANY = 15
"""Choices that an error lists at the most."""


class UserError(Exception):
    """Something in the parameters, the data or the folders that the user can put right.

    The command line prints its text on one line and exits with status 2.
    """


class NoRoom(Exception):
    """The disk is full, or the user's share of it; says which file, and how much is needed."""


def nearest(word: str, choices) -> str:
    """The end of an error about an unknown `word`: the nearest of `choices`, or all of them."""
    choices = [str(choice) for choice in choices]
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(choices[:MANY])
    return f"choose from {listed}" + (f" and {len(choices) - MANY} more" if len(choices) > MANY else "")


def first_line(error: BaseException) -> str:
    """What an error says, short enough to quote in another one; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
