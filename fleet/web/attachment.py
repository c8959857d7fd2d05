"""The header of an answer that is to be kept as a file. Called by whatever answers with one. Imports no app."""

from django.utils.http import content_disposition_header

_PLAIN = "-_."


def attachment(name: str) -> dict[str, str]:
    """Return the header with the file's name, in which all but letters, digits and `-_.` becomes an underscore.

    Names of hosts, devices and runs come from outside, and a header has one line.
    """
    safe = "".join(each if each.isalnum() or each in _PLAIN else "_" for each in name)
    return {"Content-Disposition": str(content_disposition_header(as_attachment=True, filename=safe))}
