"""How both Celery apps, the server's and the hosts', speak through the broker. No Django, nothing of the project.

The server's app names it as a string. kombu's set of unacknowledged messages is shared by all consumers of a broker: the
lowest visibility timeout of any of them would hand out everyone's messages again, so it stands here, once.
"""

import ssl
from typing import Any

VISIBILITY_TIMEOUT_SECONDS = 120  # an unacknowledged message is handed out again after this

CELERY_OPTIONS: dict[str, Any] = {
    "task_serializer": "msgpack",  # never pickle
    "accept_content": ["msgpack"],
    "task_ignore_result": True,
    "worker_pool": "solo",
    "worker_enable_remote_control": False,  # it is unsigned
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "retry_on_timeout": True,
    },
}


def broker_tls(url: str, ca_file: str = "") -> dict[str, Any] | None:
    """Return Celery's `broker_use_ssl` for a broker; None where its URL asks for no TLS.

    Certificate and host name are always checked, against `ca_file` (PEM) where one is named, else against the system's
    authorities: kombu by itself would check neither.
    """
    scheme = url.partition("://")[0]
    if scheme == "rediss":
        options: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        return options | ({"ssl_ca_certs": ca_file} if ca_file else {})
    if scheme == "amqps":
        options = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}  # None: the URL's own
        return options | ({"ca_certs": ca_file} if ca_file else {})
    return None
