"""The error of this package."""

from robovae.errors import RobovaeError


class DreamError(RobovaeError):
    """A beginning, a policy or a length that cannot be dreamt on from."""
