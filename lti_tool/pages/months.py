"""The calendar of plans: what lapses when, as numbers for an SVG (inline styles are not allowed)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby

from flask_babel import format_date, get_timezone, ngettext
from flask_babel import gettext as _

from lti_tool.classroom.allotment import Allotted
from lti_tool.classroom.plans import Plan
from lti_tool.database import now

# Units of the viewBox.
LEFT, RIGHT, TOP, LINE, BAR = 190, 955, 31, 29, 21
MONTHS = 9
MOST_LINES = 40
LONGEST_NAME = 26


@dataclass(frozen=True)
class Column:
    """Where a month begins."""

    x: float
    label: str


@dataclass(frozen=True)
class Bar:
    """One plan, or several free ones alike: `kind` is slot, slot-soon or slot-free."""

    name: str
    title: str
    kind: str
    x: float
    y: float
    width: float
    text: str
    text_x: float
    # Does the text stand beside the bar, where it would not fit inside?
    beside: bool


@dataclass(frozen=True)
class Calendar:
    """Everything the picture needs."""

    columns: list[Column] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    today: float = 0.0
    height: float = 0.0
    label: str = ""


def draw(allotted: Sequence[Allotted]) -> Calendar:
    """The plans that hold or are still to come, from this month on."""
    first = now().astimezone(get_timezone()).date().replace(day=1)
    months = [_month_after(first, number) for number in range(MONTHS + 1)]
    scale = _Scale(months[0], months[-1])
    columns = [
        Column(scale.x(month), format_date(month, "LLL" if month.month > 1 and i else "LLL yyyy"))
        for i, month in enumerate(months[:-1])
    ]
    bars: list[Bar] = []
    for group in _groups(allotted)[:MOST_LINES]:
        bar = _bar(group, scale, TOP + LINE * len(bars))
        if bar is not None:
            bars.append(bar)
    label = _(
        "Plans from %(first)s to %(last)s; the same dates are in the table below",
        first=format_date(months[0], "LLLL yyyy"),
        last=format_date(months[-2], "LLLL yyyy"),
    )
    bottom = TOP + LINE * len(bars)
    return Calendar(columns, bars, scale.x(_day(now())), bottom, label)


class _Scale:
    def __init__(self, first: date, last: date) -> None:
        self.first, self.days = first, (last - first).days

    def x(self, day: date) -> float:
        share = min(max((day - self.first).days / self.days, 0.0), 1.0)
        return round(LEFT + share * (RIGHT - LEFT), 1)


def _month_after(first: date, number: int) -> date:
    years, month = divmod(first.month - 1 + number, 12)
    return date(first.year + years, month + 1, 1)


def _day(at: datetime) -> date:
    return at.astimezone(get_timezone()).date()


def _groups(allotted: Sequence[Allotted]) -> list[list[Allotted]]:
    """Plans on courses each for itself, then free ones, those alike together."""
    shown = [one for one in allotted if not one.over]
    free = sorted((one for one in shown if one.course is None), key=_alike)
    return [[one] for one in shown if one.course] + [list(group) for _key, group in groupby(free, _alike)]


def _alike(one: Allotted) -> tuple[str, str, int]:
    plan = one.plan
    return (str(plan.ends_at and _day(plan.ends_at)), str(_day(plan.starts_at)), plan.seats)


def _bar(group: Sequence[Allotted], scale: _Scale, y: float) -> Bar | None:
    one = group[0]
    plan = one.plan
    starts = _day(plan.starts_at)
    # The last day on which it holds is the one people think of as its end.
    ends = _day(plan.ends_at - timedelta(seconds=1)) + timedelta(days=1) if plan.ends_at else None
    x = scale.x(starts)
    width = round(max((scale.x(ends) if ends else RIGHT) - x, 3.0), 1)
    if x >= RIGHT:
        return None
    if one.course is not None:
        full = one.course.name
    else:
        full = _("Free: %(names)s", names=", ".join(each.plan.name for each in group))
    text = _words(plan, len(group), one.ends_soon)
    # Texts of the bars that run now stand in one column, right of today.
    inside_x = max(scale.x(_day(now())), x) + 8
    beside = inside_x + 6.2 * len(text) > x + width
    return Bar(
        name=full if len(full) <= LONGEST_NAME else full[: LONGEST_NAME - 1].rstrip() + "…",
        title=full,
        kind="slot-free" if one.course is None else "slot-soon" if one.ends_soon else "slot",
        x=x,
        y=y,
        width=width,
        text=text,
        text_x=round(x + width + 8 if beside else inside_x, 1),
        beside=beside,
    )


def _words(plan: Plan, many: int, soon: bool) -> str:
    seats = ngettext("%(num)s seat", "%(num)s seats", plan.seats)
    if many > 1:
        seats = f"{many} × {seats}"
    if plan.ends_at is None:
        return str(_("%(seats)s · without end", seats=seats))
    day = format_date(_day(plan.ends_at - timedelta(seconds=1)), "d MMM")
    if soon:
        return str(_("%(seats)s · ends %(day)s", seats=seats, day=day))
    return f"{seats} · {day}"
