"""The one exception that is meant for a person."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do about it.

    Entry points print the message alone and exit with a non-zero status; they never show a traceback of it.
    """
