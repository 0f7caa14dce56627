"""Botocore's clock, set forward or back."""

import contextlib
import unittest.mock

import botocore.auth


@contextlib.contextmanager
def moved(by):
    """While this lasts botocore signs as if it were so much later."""
    if by is None:
        yield
        return
    now = botocore.auth.get_current_datetime
    with unittest.mock.patch.object(botocore.auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + by):
        yield
