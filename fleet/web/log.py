"""What the server's log leaves out. Named by the settings' LOGGING."""

import logging


class RefusalsInOneLine(logging.Filter):
    """A request that is refused (4xx) is whoever asked's to mend: its line says all, a traceback of ours would say nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True
