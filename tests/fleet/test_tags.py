"""The design system's template tags."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.template import Context, Template


def rendered(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


@dataclass
class State:
    values: dict[str, float] = field(default_factory=dict)

    def why_absent(self, metric: str) -> str:
        return "the agent has no <permission> to read it"


def test_a_reading_has_its_unit():
    state = State({"power_draw_watts": 651.4})
    shown = rendered('{% reading state "power_draw_watts" "watts" %}', state=state)
    assert shown == '651<span class="unit">W</span>'


def test_an_absent_reading_is_a_dash_with_its_reason_escaped():
    shown = rendered('{% reading state "power_draw_watts" "watts" %}', state=State())
    assert shown == '<abbr class="faint" title="the agent has no &lt;permission&gt; to read it">—</abbr>'


def test_a_time_is_readable_without_scripts():
    shown = rendered("{% ago moment %}", moment=datetime(2026, 11, 23, 16, 4, 39, tzinfo=UTC))
    assert '<time datetime="2026-11-23T16:04:39.000Z" data-f="ago"' in shown
    assert ">2026-11-23 16:04:39 UTC</time>" in shown


def test_moments_in_a_sentence_are_times_and_all_else_is_escaped():
    shown = rendered("{{ text|timed }}", text="<b> since 2026-11-23 16:04:39 UTC, 2026-99-23 16:04:39 UTC")

    assert shown.startswith('&lt;b&gt; since <time datetime="2026-11-23T16:04:39.000Z" data-f="second"')
    assert shown.endswith(">2026-11-23 16:04:39 UTC</time>, 2026-99-23 16:04:39 UTC")


def test_a_moment_that_never_was_is_a_dash():
    assert "—" in rendered("{% at moment %}", moment=None)


def test_a_state_is_shape_colour_and_word():
    assert rendered('{% health "silent" %}').replace(' aria-hidden="true"', "") == (
        '<span class="st stale"><svg width="12" height="12"><use href="#s-stale"/></svg>silent</span>'
    )


def test_words_of_a_pill_are_escaped():
    assert "&lt;b&gt;" in rendered('{% pill "warn" words %}', words="<b>")


def test_a_bar_of_an_unknown_share_is_empty():
    assert 'width="0"' in rendered("{% bar share %}", share=None)


def test_a_sparkline_is_named_for_the_chart_data():
    assert 'data-spark="power"' in rendered('{% sparkline key="power" %}')
