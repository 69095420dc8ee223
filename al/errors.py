"""Errors that a user can act on: one line with the value, the rule and the remedy."""

from difflib import get_close_matches


class UserError(Exception):
    """Something in the parameters, the data or the folders that the user can put right.

    The command line prints its text on one line and exits with status 2.
    """


def nearest(word: str, choices) -> str:
    """The end of an error about an unknown `word`: the nearest of `choices`, or all of them."""
    choices = [str(choice) for choice in choices]
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"
