"""What says that a message cannot be handled now, and waits. Raised by what handles it, heard by `grouped`. No Django, no Celery."""


class NotNow(Exception):  # noqa: N818 — nothing is wrong with the message
    """The text says what is waited for."""
