"""What several test files share: fixtures, and property tests that a busy machine does not fail."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.chromium import Tab, chromium, find

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A tab of a headless Chromium."""
    binary = find()
    if binary is None:
        pytest.skip("no chromium here")
    with chromium(binary) as one:
        yield one
