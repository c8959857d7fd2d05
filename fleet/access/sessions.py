"""Who is signed in where: the sessions that the database holds, seen and ended. Called by the access page.

A session is told by the digest of its key: the key itself is as good as a password, and no page shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone

from fleet.access.auth import client_address

_NOTE = "signed_in"
_MOST = 1000  # the newest: more are not looked at in one page
_BROWSER_LENGTH = 200


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session; `at`, `address` and `browser` are those of the sign-in, None or "" for one from before they were noted."""

    digest: str
    user: str
    at: datetime | None
    address: str
    browser: str
    ends_at: datetime
    is_this: bool


def note(request: HttpRequest) -> None:
    """Write into the session when and from where somebody signed in; called when it begins."""
    request.session[_NOTE] = {
        "at": timezone.now().isoformat(),
        "address": client_address(request) or "",
        "browser": request.headers.get("User-Agent", "")[:_BROWSER_LENGTH],
    }


def signed_in(own: SessionBase, now: datetime, *, of_user: int | None = None) -> list[SignedIn]:
    """Return the sessions that hold, of one user or of all, this one first, then the last to sign in."""
    names = dict(get_user_model().objects.values_list("pk", get_user_model().USERNAME_FIELD))
    found = [
        _told(session, names.get(user_id, "a user who was deleted"), own)
        for session, user_id in _sessions(now)
        if of_user in {None, user_id}
    ]
    return sorted(found, key=lambda each: (each.is_this, each.at is not None, each.at), reverse=True)


def end(digest: str, now: datetime, *, of_user: int | None = None) -> str | None:
    """End a session by its digest; returns whose it was, None where there is no such session (of that user)."""
    for session, user_id in _sessions(now):
        if _digest(session.session_key) == digest and of_user in {None, user_id}:
            session.delete()
            user = get_user_model().objects.filter(pk=user_id).first()
            return user.get_username() if user else ""
    return None


def _sessions(now: datetime) -> Iterator[tuple[Session, int]]:
    for session in Session.objects.filter(expire_date__gt=now).order_by("-expire_date")[:_MOST]:
        user_id = session.get_decoded().get(SESSION_KEY)
        if user_id is not None:
            yield session, int(user_id)


def _told(session: Session, name: str, own: SessionBase) -> SignedIn:
    said = session.get_decoded().get(_NOTE, {})
    return SignedIn(
        digest=_digest(session.session_key),
        user=name,
        at=datetime.fromisoformat(said["at"]) if "at" in said else None,
        address=said.get("address", ""),
        browser=said.get("browser", ""),
        ends_at=session.expire_date,
        is_this=session.session_key == own.session_key,
    )


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
