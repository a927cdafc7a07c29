"""What the tests of heat maps share."""

import pytest


@pytest.fixture(autouse=True)
def _quick_to_compile(xla_convolutions):
    """All use XLA's own convolution; that all forms are equal is tested with the networks."""
