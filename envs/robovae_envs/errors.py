"""The one exception family of this package: one line with what was expected, what came, and the mend."""


class EnvError(Exception):
    """An environment, camera or renderer cannot do what was asked, and the user can mend it."""
