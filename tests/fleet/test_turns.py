"""Passes over many: what breaks one keeps back no other, is logged, and is known at the end."""

import logging

import pytest
from django.db import DataError, OperationalError

from fleet.turns import TurnFailed, Turns


def each_of(names, turns, fault=ValueError):
    done = []
    for name in names:
        with turns.of(name):
            if name == "bad":
                raise fault(f"{name} is broken")
            done.append(name)
    return done


def all_but_bad(many):
    if "bad" in many:
        raise ValueError("bad is among them")
    return sum(many.values())


@pytest.mark.parametrize("fault", [ValueError, KeyError, DataError])
def test_one_that_fails_keeps_back_no_other(fault, caplog):
    turns = Turns("doing")
    with caplog.at_level(logging.ERROR):
        assert each_of(["first", "bad", "last"], turns, fault) == ["first", "last"]

    assert turns.failed == ["bad"]
    assert "doing bad failed; the others go on" in caplog.text
    with pytest.raises(TurnFailed, match="doing: 1 failed, the last with"):
        turns.end()


def test_a_pass_in_which_all_went_well_ends_so():
    turns = Turns("doing")
    assert each_of(["first", "last"], turns) == ["first", "last"]
    turns.end()


def test_a_database_that_is_away_ends_the_pass_at_once():
    with pytest.raises(OperationalError):
        each_of(["bad", "last"], Turns("doing"), OperationalError)
    with pytest.raises(OperationalError):
        Turns("doing").of_many({"a": 1, "b": 2}, lambda many: (_ for _ in ()).throw(OperationalError()))


def test_of_many_that_fail_together_those_are_done_that_can_be():
    turns = Turns("doing")
    turns.of_many({"first": 1, "bad": 2, "last": 4}, all_but_bad)

    assert (turns.done, turns.failed) == (5, ["bad"])


def test_many_that_do_not_fail_are_done_together():
    calls, turns = [], Turns("doing")
    turns.of_many({"first": 1, "last": 4}, lambda many: calls.append(many) or 5)

    assert (calls, turns.end()) == ([{"first": 1, "last": 4}], 5)


def test_a_pass_within_a_pass_is_logged_once(caplog):
    inner, outer = Turns("the inner"), Turns("the outer")
    with outer.of("part"):
        each_of(["bad"], inner)
        inner.end()

    assert outer.failed == ["part"]
    assert caplog.text.count("Traceback") == 1


def test_what_was_done_for_the_others_is_told_though_one_failed():
    inner, outer = Turns("the inner"), Turns("the outer")
    inner.done = 3
    with inner.of("bad"):
        raise ValueError
    outer.done = 1
    with outer.of("part"):
        inner.end()

    with pytest.raises(TurnFailed) as failed:
        outer.end()
    assert failed.value.done == 4
