"""What says that a message waits. Raised by what handles it, heard by `grouped`. No Django, no Celery."""


class NotNow(Exception):
    """Nothing is wrong with the message; the text says what is waited for."""
