"""The one exception for mistakes a person can mend."""

MAX_LETTERS = 1200  # letters of a message


class InputError(ValueError):
    """Something the person at the keyboard gave cannot be used.

    The message is one sentence for that person: it names the file, row or option, says what was
    expected and what was found, and how to mend it. The command line prints it and exits with 2.

    Attributes:
        shared: Every process of a run says the same, so the first is to be the only one.
    """

    shared = False

    def __init__(self, message: str = "") -> None:
        # What a person gave may be in it: any text, of any length.
        line = " ".join("".join(x if x.isprintable() else " " for x in message).split())
        if len(line) > MAX_LETTERS:
            line = f"{line[: MAX_LETTERS - 300]} ... {line[-290:]}"
        super().__init__(line)
