"""Where rank 0 listens, and by which interface ranks speak."""

import socket

import psutil
import pytest

from training.host import meeting
from training.host.meeting import NoMeeting
from training.message.rank_order import RankOrder

RANK_0 = RankOrder(1, 0, 2, "c0ffee")


@pytest.mark.parametrize("setting", ["127.0.0.1", "lo"])
def test_the_setting_names_an_address_or_an_interface(setting):
    place = meeting.prepare(RANK_0, setting)
    assert (place.address, place.interface) == ("127.0.0.1", "lo")
    assert place.words == f"127.0.0.1 {place.port}"
    socket.create_connection((place.address, place.port), timeout=60).close()
    assert place.environment == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}
    place.close()


@pytest.mark.parametrize("setting", ["no-such-interface", "198.51.100.7"])
def test_a_setting_that_this_host_has_not_is_named(setting):
    with pytest.raises(NoMeeting, match="STEPWATT_JOB_ADDRESS"):
        meeting.prepare(RANK_0, setting)


def test_without_a_setting_it_is_an_address_of_this_host_and_others_are_preferred_to_the_loopback():
    own = {each.address for name, known in psutil.net_if_addrs().items() if name != "lo" for each in known}
    place = meeting.prepare(RANK_0, "", "127.0.0.1")
    place.close()
    assert place.address in own | {"127.0.0.1"}
    assert place.interface in psutil.net_if_addrs()


def test_another_rank_speaks_by_the_interface_on_its_way_there_and_listens_nowhere():
    place = meeting.prepare(RankOrder(1, 1, 2, "c0ffee", "127.0.0.1", 4567), "")
    assert (place.interface, place.handed, place.words) == ("lo", [], "")
