"""The web server's entry: `uvicorn fleet.asgi:application`."""

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
# WhiteNoise hands files over as plain iterators; that Django reads them whole before it sends them is what we want here.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
application = get_asgi_application()
