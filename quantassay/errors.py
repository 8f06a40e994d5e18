"""What a user did wrong, as opposed to what we did: the command line shows it as one line."""

from __future__ import annotations


class UsageError(ValueError):
    """A name, a file or a registration that cannot be used; the message says what is allowed."""


class DeviceError(UsageError):
    """The device that was asked for cannot be used."""


class LoadError(UsageError):
    """A wing or a user's file cannot be loaded; the message says which, where and why."""
