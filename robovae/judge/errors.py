"""What the judge refuses."""

from robovae.errors import RobovaeError


class JudgeError(RobovaeError):
    """A measurement that would mean nothing: a fault that does nothing, a score that is no number."""


class UnreadableError(JudgeError):
    """Nothing can be read off mu, so that nothing can be lost."""
