"""What can go wrong in the sandbox that a person can mend."""


class MendableError(RuntimeError):
    """The message says what is wrong and what to do; the command line prints just that."""
