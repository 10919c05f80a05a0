"""The one exception for a user's mistake."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, what was expected, and where.

    Command lines print it on stderr and exit with status 2, without a traceback (`dynaguide.cli`).
    """


def unknown_name(kind: str, name: str, known: list[str]) -> UserError:
    """The error for a name that does not exist: it says the nearest name that does, and all of them when they are few."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    names = f" (known: {', '.join(sorted(known))})" if len(known) <= 12 else ""
    return UserError(f"unknown {kind} {name!r}{hint}{names}")
