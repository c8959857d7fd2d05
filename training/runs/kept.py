"""Where figures of runs that were worked out are kept for a while, in each process: apart from all else that is kept so."""

from typing import cast

from django.core.cache import BaseCache, caches
from django.utils.connection import ConnectionProxy

cache = cast(BaseCache, ConnectionProxy(caches, "figures of runs"))
