"""What the judge refuses."""

from robovae.errors import RobovaeError


class JudgeError(RobovaeError):
    """A measurement that would mean nothing: a fault that does nothing, a score that is no number."""
