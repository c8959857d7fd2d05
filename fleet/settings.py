"""The one settings file: Django, Celery and Stepwatt read from `STEPWATT_…` (README.md lists them)."""

from pathlib import Path
from urllib.parse import quote, urlsplit

from csp.constants import NONE, SELF

from fleet.environment import databases, mail, secrets, tariff
from fleet.environment.env import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment.of_process(BASE_DIR / ".env")

# Where it lives -----------------------------------------------------------------------------------------------
STEPWATT_BIND = env.bind("STEPWATT_BIND", "127.0.0.1:8000")
STEPWATT_DATA_DIR = Path(env.text("STEPWATT_DATA_DIR", str(BASE_DIR / "var"))).resolve()
STEPWATT_DATABASE_URL = env.url("STEPWATT_DATABASE_URL", ("postgres", "postgresql"))
STEPWATT_INGEST_WORKERS = env.whole_number("STEPWATT_INGEST_WORKERS", 1, minimum=1, maximum=64)
STEPWATT_PUBLIC_URL = env.url("STEPWATT_PUBLIC_URL", ("http", "https")).rstrip("/")
_secrets = secrets.load_or_create(STEPWATT_DATA_DIR)
STEPWATT_SERVER_KEY = secrets.server_key(_secrets)  # Ed25519 seed: see fleet/joining/server_key.py

# What it measures and keeps -----------------------------------------------------------------------------------
STEPWATT_RETENTION_RAW = env.duration("STEPWATT_RETENTION_RAW", "7d")
STEPWATT_RETENTION_1M = env.duration("STEPWATT_RETENTION_1M", "90d")
STEPWATT_RETENTION_15M = env.duration("STEPWATT_RETENTION_15M", "1y")
STEPWATT_RETENTION_1H = env.duration("STEPWATT_RETENTION_1H", "5y")
STEPWATT_RETENTION_RUNS = env.duration("STEPWATT_RETENTION_RUNS", "1y")
STEPWATT_DISK_LIMIT = env.size("STEPWATT_DISK_LIMIT")  # bytes; None: there is no limit
STEPWATT_JOBS_AT_ONCE = env.whole_number("STEPWATT_JOBS_AT_ONCE", 100_000, minimum=1, maximum=100_000)
STEPWATT_JOBS_POWER_WATTS = env.optional_number("STEPWATT_JOBS_POWER_WATTS", minimum=1.0)
STEPWATT_CURRENCY = env.text("STEPWATT_CURRENCY")
STEPWATT_TARIFF = tariff.read(env)  # None: the price is that of the settings page
STEPWATT_TARIFF_TEXT = env.text("STEPWATT_TARIFF")
STEPWATT_GRAMS_CO2_PER_KWH = env.optional_number("STEPWATT_GRAMS_CO2_PER_KWH")
STEPWATT_PUE = env.optional_number("STEPWATT_PUE", minimum=1.0)
STEPWATT_METRICS_ANONYMOUS = env.boolean("STEPWATT_METRICS_ANONYMOUS", default=False)
STEPWATT_DCGM_HOSTNAME_LABEL = env.choice("STEPWATT_DCGM_HOSTNAME_LABEL", "Hostname", ("Hostname", "hostname"))
STEPWATT_SILENT_SECONDS = 30  # a host that sent nothing for this long is silent: its device series end

# Django -------------------------------------------------------------------------------------------------------
SECRET_KEY = _secrets["django_secret_key"]
DEBUG = False
_public_host = urlsplit(STEPWATT_PUBLIC_URL).hostname
ALLOWED_HOSTS = [
    # Django matches the Host header, in which an IPv6 address stands in brackets.
    f"[{name}]" if ":" in name else name
    for name in ("localhost", "127.0.0.1", "::1", STEPWATT_BIND[0], _public_host)
    if name
]
CSRF_TRUSTED_ORIGINS = [STEPWATT_PUBLIC_URL] if STEPWATT_PUBLIC_URL else []

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "fleet.apps.FleetConfig",
    "telemetry.apps.TelemetryConfig",
    "training.apps.TrainingConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "fleet.web.compression.CompressionMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "fleet.access.auth.BearerTokenMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "fleet.web.nul.NulMiddleware",
    "fleet.views.wrong_method.WrongMethodMiddleware",
]
ROOT_URLCONF = "fleet.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "fleet.pages.context.shell",
            ]
        },
    }
]

DATABASES = {"default": databases.configured(STEPWATT_DATABASE_URL, STEPWATT_DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
CACHES = {
    "default": {"BACKEND": _LOCMEM},
    "groups": {"BACKEND": _LOCMEM, "LOCATION": "groups"},
    # Some kilobytes each: with Django's 300 entries a long list of runs would lose its own.
    "figures of runs": {"BACKEND": _LOCMEM, "LOCATION": "figures of runs", "OPTIONS": {"MAX_ENTRIES": 10_000}},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000  # the launch form names each chosen host

LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
CSRF_FAILURE_VIEW = "fleet.views.errors.csrf_failure"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_ALLOW_ALL_ORIGINS = False  # nobody else's page needs them
WHITENOISE_USE_FINDERS = True  # a checkout serves its files as they are: no collect step before the first page

# Everything comes from the own origin; nothing inline. Plotly keeps to it by way of its own style sheet (base.html).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
_https = STEPWATT_PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SESSION_COOKIE_AGE = 14 * 86_400
SECURE_REFERRER_POLICY = "same-origin"
# TLS ends at the proxy in front (docs/install.md); these checks of `check --deploy` speak of a server that is its own edge.
SILENCED_SYSTEM_CHECKS = [
    "security.W004",
    "security.W005",
    "security.W008",
    "security.W012",
    "security.W016",
    "security.W021",
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "filters": {"refusals": {"()": "fleet.web.log.RefusalsInOneLine"}},
    "loggers": {
        "django.request": {"filters": ["refusals"]},
        # A line for each task would bury what people look for.
        **{name: {"level": "WARNING"} for name in ("celery.app.trace", "celery.worker.strategy", "celery.beat")},
    },
}

# Mail -----------------------------------------------------------------------------------------------------------
globals().update(mail.read(env))

# Broker and Celery ----------------------------------------------------------------------------------------------
BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")
STEPWATT_BROKER_URL = env.url("STEPWATT_BROKER_URL", BROKER_SCHEMES)
STEPWATT_BROKER_CA = env.file("STEPWATT_BROKER_CA")
EMBEDDED_BROKER_SOCKET_PORT_FILE = STEPWATT_DATA_DIR / "broker" / "port"
EMBEDDED_BROKER_PASSWORD = _secrets["broker_password"]


def embedded_broker_url(port: int) -> str:
    return f"redis://:{quote(EMBEDDED_BROKER_PASSWORD, safe='')}@127.0.0.1:{port}/0"


def _broker_url() -> str:
    """Return the configured broker, else the embedded one of the running supervisor, which notes its port on disk."""
    if STEPWATT_BROKER_URL:
        return STEPWATT_BROKER_URL
    try:
        return embedded_broker_url(int(EMBEDDED_BROKER_SOCKET_PORT_FILE.read_text()))
    except (OSError, ValueError):
        return embedded_broker_url(1)  # nobody listens on port 1: every use says that the broker cannot be reached


CELERY_BROKER_URL = _broker_url()
