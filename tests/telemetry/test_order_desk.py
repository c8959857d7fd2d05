"""Which orders a host obeys: signed for it, in time, and once; and what the server hears of the others."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.agent import orders
from telemetry.agent.orders import KEEP_AFTER_EXPIRY_MS, MAX_LIFETIME_MS, REDELIVERY_MS, OrderDesk, OrderRefused
from telemetry.message.envelope import read, seal, seal_order
from telemetry.message.notices import NoticeKind, pack, unpack
from telemetry.message.wire import MessageInvalid

SERVER = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW = 1_800_000_000_000
MINUTE = 60_000


class Desk:
    """A host's desk, and the notices that it gave."""

    def __init__(self, directory):
        self.notices = []
        self._desk = OrderDesk(directory, "a", SERVER.public_key().public_bytes_raw(), self.notices.append)

    def open(self, payload, now_ms=NOW, **options):
        return self._desk.open("task", payload, now_ms, **options)

    @property
    def kinds(self):
        return [notice.kind for notice in self.notices]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def order(body=b"do it", host="a", task="task", key=SERVER, expires_ms=NOW + MINUTE):
    return seal_order(key, task, host, body, expires_ms)


def test_an_order_of_the_server_is_opened(desk):
    assert desk.open(order(b"do it")) == b"do it"
    assert desk.notices == []


FOREIGN = {
    "another key": order(key=Ed25519PrivateKey.generate()),
    "another task": order(task="other"),
    "another host": order(host="b"),
    "a message that is no order": seal(SERVER, "task", "a", b"x"),
}


@pytest.mark.parametrize("payload", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_the_servers_order_is_refused_and_told(desk, payload):
    with pytest.raises(OrderRefused):
        desk.open(payload)
    assert desk.kinds == [NoticeKind.FORGED_ORDER]


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x80", "text", None])
def test_junk_is_refused_with_one_line_a_minute_in_the_log_and_no_notice(desk, caplog, payload):
    for second in range(60):
        with pytest.raises(MessageInvalid):
            desk.open(payload, NOW + second * 1000)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert desk.notices == []


def test_a_changed_order_is_refused(desk):
    with pytest.raises(OrderRefused):
        desk.open(order(b"do it").replace(b"do it", b"do no"))


def test_an_order_is_obeyed_once(desk):
    payload = order()
    desk.open(payload)

    with pytest.raises(OrderRefused):
        desk.open(payload)
    assert desk.kinds == [NoticeKind.REPLAYED_ORDER]


def test_an_order_is_obeyed_once_also_after_the_agent_was_started_again(desk, tmp_path):
    payload = order()
    desk.open(payload)
    again = Desk(tmp_path)

    with pytest.raises(OrderRefused):
        again.open(payload)
    assert again.kinds == [NoticeKind.REPLAYED_ORDER]


def test_a_redelivery_of_an_order_that_was_taken_does_nothing_and_is_no_attack(desk):
    payload = order()
    desk.open(payload, is_redelivery=True)

    with pytest.raises(OrderRefused):
        desk.open(payload, is_redelivery=True)
    assert desk.notices == []


def test_a_redelivery_long_after_the_order_was_taken_is_a_replay_whatever_the_broker_says(desk, tmp_path):
    payload = order(expires_ms=NOW + 60 * MINUTE)
    desk.open(payload)
    for life in (desk, Desk(tmp_path)):
        with pytest.raises(OrderRefused):
            life.open(payload, NOW + REDELIVERY_MS, is_redelivery=True)
        assert life.kinds == [NoticeKind.REPLAYED_ORDER]


def test_a_redelivery_just_after_a_restart_is_no_attack(desk, tmp_path):
    payload = order()
    desk.open(payload)
    again = Desk(tmp_path)

    with pytest.raises(OrderRefused):
        again.open(payload, NOW + MINUTE // 2, is_redelivery=True)
    assert again.notices == []


def test_a_known_order_is_a_replay_also_when_it_has_expired(desk):
    payload = order()
    desk.open(payload)

    with pytest.raises(OrderRefused):
        desk.open(payload, NOW + 60 * MINUTE)
    assert desk.kinds == [NoticeKind.REPLAYED_ORDER]


def test_nonces_that_an_earlier_version_noted_are_known(tmp_path):
    payload = order()
    (tmp_path / orders.FILE).write_bytes(f"\n{NOW + MINUTE} {read(payload).nonce.hex()}".encode())

    with pytest.raises(OrderRefused):
        Desk(tmp_path).open(payload)


@pytest.mark.parametrize(
    ("expires_ms", "words"), [(NOW - 2000, "expired 2 s ago"), (NOW + MAX_LIFETIME_MS + 1, "more than 7 days")]
)
def test_an_order_out_of_its_time_is_refused_and_told_but_not_called_forged(desk, caplog, expires_ms, words):
    with pytest.raises(OrderRefused):
        desk.open(order(expires_ms=expires_ms))

    [notice] = desk.notices
    assert (notice.kind, words in notice.text) == (NoticeKind.ORDER_REFUSED, True)
    assert [(record.levelname, words in record.message) for record in caplog.records] == [("WARNING", True)]


def test_a_clock_that_is_set_back_makes_no_old_order_new(tmp_path, monkeypatch):
    monkeypatch.setattr(orders, "FORGET_AFTER_LINES", 2)
    desk, old = Desk(tmp_path), order(expires_ms=NOW + MINUTE)
    desk.open(old)
    later = NOW + KEEP_AFTER_EXPIRY_MS
    for _ in range(3):
        desk.open(order(expires_ms=later + MINUTE), later)

    with pytest.raises(OrderRefused):
        desk.open(old, NOW)


def test_what_has_long_expired_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(orders, "FORGET_AFTER_LINES", 50)
    desk = Desk(tmp_path)
    for day in range(200):
        now = NOW + day * KEEP_AFTER_EXPIRY_MS
        desk.open(order(expires_ms=now + MINUTE), now)

    assert len((tmp_path / orders.FILE).read_bytes().splitlines()) <= 51


def test_no_more_orders_are_taken_than_can_be_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(orders, "FORGET_AFTER_LINES", 2)
    monkeypatch.setattr(orders, "MAX_NONCES", 3)
    desk = Desk(tmp_path)
    for _ in range(3):
        desk.open(order())

    with pytest.raises(OrderRefused, match="no more are taken"):
        desk.open(order())
    assert desk.kinds == [NoticeKind.ORDER_REFUSED]
    assert desk.open(order(expires_ms=(later := NOW + 2 * KEEP_AFTER_EXPIRY_MS) + MINUTE), later) == b"do it"


def test_a_line_that_a_crash_cut_off_costs_no_other(desk, tmp_path):
    first, second = order(), order()
    desk.open(first)
    with (tmp_path / orders.FILE).open("ab") as file:
        file.write(b"\n18000000 0a1b2c")  # what a power cut leaves
    Desk(tmp_path).open(second)
    again = Desk(tmp_path)

    for payload in (first, second):
        with pytest.raises(OrderRefused):
            again.open(payload)


def test_an_order_that_cannot_be_noted_is_not_obeyed(desk, tmp_path):
    (tmp_path / orders.FILE).mkdir()  # stands for a disk that takes nothing

    with pytest.raises(OrderRefused, match="so is not obeyed"):
        desk.open(order())
    assert desk.kinds == [NoticeKind.ORDER_REFUSED]


def test_a_flood_of_forged_orders_is_one_notice_a_minute_with_its_count(desk):
    for second in range(120):
        with pytest.raises(OrderRefused):
            desk.open(FOREIGN["another key"], NOW + second * 1000)
    with pytest.raises(OrderRefused):
        desk.open(FOREIGN["another key"], NOW + 120_000)

    assert [notice.at_ms for notice in desk.notices] == [NOW, NOW + 60_000, NOW + 120_000]
    assert [notice.count for notice in desk.notices] == [1, 60, 60]


def test_what_was_refused_within_the_minute_is_told_after_it_though_nothing_more_is_refused(desk, caplog):
    for payload in FOREIGN.values():
        with pytest.raises(OrderRefused):
            desk.open(payload)
    desk.open(order(), NOW + 59_000)
    assert len(desk.notices) == 1

    for _ in range(2):
        desk.open(order(expires_ms=NOW + 5 * MINUTE), NOW + MINUTE)

    words = "task: a message of the server that is no order was refused"
    assert [(notice.text, notice.count) for notice in desk.notices[1:]] == [(words, 3)]
    assert caplog.records[-1].message == f"{words} (the last of 3 since the last notice)"


def test_its_notices_are_what_the_server_reads(desk):
    for payload in FOREIGN.values():
        with pytest.raises(OrderRefused):
            desk.open(payload)

    assert unpack(pack(desk.notices[0])) == desk.notices[0]
