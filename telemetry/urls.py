"""Pages and data of the fleet, its hosts and devices, and the exposition for Prometheus."""

from django.urls import path

from telemetry.views import data, device, dist, events, fleet, fleet_map, host, hosts, metrics, settings

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("fleet/agents/", fleet.agents, name="fleet-agents"),
    path("fleet/energy/", fleet.energy, name="fleet-energy"),
    path("fleet/map/", fleet_map.fleet_map, name="fleet-map"),
    path("fleet/devices/", fleet_map.devices, name="fleet-devices"),
    path("fleet/devices/<int:pk>/", fleet_map.device_of_cell, name="fleet-device"),
    path("fleet/arrays/", data.fleet_arrays, name="fleet-arrays"),
    path("hosts/", hosts.hosts, name="hosts"),
    path("hosts/<str:name>/", host.host, name="host"),
    path("hosts/<str:name>/arrays/", data.host_arrays, name="host-arrays"),
    path("hosts/<str:name>/agent/", host.agent, name="host-agent"),
    path("hosts/<str:name>/driver/", host.order_driver, name="host-driver"),
    path("devices/<path:uuid>/day/", device.day, name="device-day"),
    path("devices/<path:uuid>/arrays/", data.device_arrays, name="device-arrays"),
    path("devices/<path:uuid>/", device.device, name="device"),
    path("events/", events.events, name="events"),
    path("events/<int:pk>/acknowledge/", events.acknowledge, name="event-acknowledge"),
    path("settings/", settings.settings_page, name="settings"),
    path("dist/", dist.index, name="dist"),
    path("dist/<str:name>", dist.file, name="dist-file"),
    path("metrics", metrics.metrics, name="metrics"),
]
