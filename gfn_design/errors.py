"""The one exception for mistakes a person can mend."""


class InputError(ValueError):
    """Something the person at the keyboard gave cannot be used.

    The message is one sentence for that person: it names the file, row or option, says what was
    expected and what was found, and how to mend it. The command line prints it and exits with 2.

    Attributes:
        shared: Every process of a run says the same, so the first is to be the only one.
    """

    shared = False
