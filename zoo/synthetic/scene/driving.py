"""How traffic moves: vehicles follow each other along lanes, brake for signals and people, turn and give way.

The intelligent driver model (Treiber, Hennecke and Helbing: Congested traffic states in empirical observations and
microscopic simulations, Physical Review E 62, 2000) gives each vehicle's acceleration from its own speed, the gap to
the one ahead and how fast that gap closes. A closed stop line acts like a standing vehicle. Nobody overtakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.synthetic.scene.types import Way

__all__ = ["STEP_S", "Driver", "Route", "Stop", "drive", "way_of"]

STEP_S = 0.25
_ACCELERATION = 1.4  # m / s2, of the driver model
_BRAKING = 2.0  # m / s2, what drivers like
_HARDEST = 6.0  # m / s2
_WILLING = 4.0  # m / s2: who would have to brake harder for a line that closes drives on
_HEADWAY_S = 1.3
_STANDSTILL_M = 2.0
_CURVE_BRAKING = 1.5  # m / s2, before a turn
_ROOM_TO_WAKE_M = 4.0  # to the vehicles ahead and behind
_PATIENCE_S = 4.5  # gap in time that a driver who has to give way waits for


@dataclass(frozen=True, kw_only=True)
class Route:
    """A line in street coordinates: `(K,)` metres along it, `s`, `t`, and radians; beyond its ends it goes straight on.

    `slow` are the parts with a turn, in order: from, to, and the speed there in m/s. `joins` are the lanes that the
    route goes over to, in order: metres along it, the lane, and what is added to get metres along that lane.
    """

    x: np.ndarray
    s: np.ndarray
    t: np.ndarray
    yaw: np.ndarray
    slow: tuple[tuple[float, float, float], ...] = ()
    joins: tuple[tuple[float, int, float], ...] = ()

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """s, t and yaw at each of `x`."""
        return np.interp(x, self.x, self.s), np.interp(x, self.x, self.t), np.interp(x, self.x, self.yaw)


@dataclass(kw_only=True)
class Driver:
    """One vehicle at the start.

    Attributes:
        lane: Number of the lane.
        x: Metres along the lane, and along the route until it joins another lane.
        length: Metres.
        speed: What it would drive on an empty street, m/s.
        route: Where it drives.
        wakes: Metres along the route of the first vehicle. It is put on the street when the first one gets there,
            unless its place is taken; minus infinity: from the beginning.
    """

    lane: int
    x: float
    length: float
    speed: float
    route: Route
    wakes: float = -np.inf


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A line where a lane stops.

    Attributes:
        lane: Number of the lane.
        x: Metres along it.
        closed: Intervals of scene time.
        gives_way: A lane, and a place on it: the line is open only while nobody comes to that place.
    """

    lane: int
    x: float
    closed: tuple[tuple[float, float], ...] = ()
    gives_way: tuple[int, float] | None = None


@dataclass
class _State:
    """`(N,)` each: metres along the own route, m/s, lane, what leads from metres along the route to the lane's."""

    at: np.ndarray
    speed: np.ndarray
    lane: np.ndarray
    shift: np.ndarray
    length: np.ndarray
    wanted: np.ndarray
    active: np.ndarray
    slow: np.ndarray  # (N, 3): the next of `Route.slow`, infinity for none
    join: np.ndarray  # (N, 3): the next of `Route.joins`, infinity for none
    later_slow: list[list[tuple[float, float, float]]]
    later_joins: list[list[tuple[float, int, float]]]
    wakes: np.ndarray  # infinity for who has been woken
    entrance: float  # where the first vehicle enters, metres along its lane


def _wanted_acceleration(speed: np.ndarray, wanted: np.ndarray, gap: np.ndarray, closing: np.ndarray) -> np.ndarray:
    """The intelligent driver model."""
    desired = _STANDSTILL_M + np.maximum(
        speed * _HEADWAY_S + speed * closing / (2 * np.sqrt(_ACCELERATION * _BRAKING)), 0
    )
    return _ACCELERATION * (1 - (speed / wanted) ** 4 - (desired / np.maximum(gap, 0.1)) ** 2)


def drive(
    drivers: Sequence[Driver], stops: Sequence[Stop], start_s: float, enter_s: float, end_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Moves all vehicles from `start_s` to `end_s`; the first of `drivers` enters the street at `enter_s`.

    Whoever is in the way when the first one enters is taken out.

    Returns:
        `(T,)` scene times from `enter_s` on, and `(T, N)` metres along each route, not a number for who was taken out.
    """
    times = np.arange(round((end_s - start_s) / STEP_S) + 1) * STEP_S + start_s
    enters = round((enter_s - start_s) / STEP_S)
    state = _start(drivers)
    closed = np.zeros((len(stops), len(times)), bool)
    for row, stop in zip(closed, stops):
        for t0, t1 in stop.closed:
            row |= (times >= t0) & (times < t1)
    out = np.full((len(times), len(drivers)), np.nan)
    for k in range(len(times)):
        if k == enters:
            _enter(state)
        if k >= enters:
            _wake(state)
        acceleration = _accelerations(state, stops, closed[:, k])
        faster = np.clip(state.speed + acceleration * STEP_S, 0, None)
        out[k] = np.where(state.active, state.at, np.nan)
        state.at = state.at + (state.speed + faster) / 2 * STEP_S
        state.speed = faster
        joining = np.nonzero(state.at > state.join[:, 0])[0]
        if len(joining):
            state.lane[joining] = state.join[joining, 1].astype(int)
            state.shift[joining] = state.join[joining, 2]
            for one in joining.tolist():
                state.join[one] = state.later_joins[one].pop(0) if state.later_joins[one] else np.inf
        turned = np.nonzero(state.at >= state.slow[:, 1])[0]
        for one in turned.tolist():
            state.slow[one] = state.later_slow[one].pop(0) if state.later_slow[one] else np.inf
    return times[enters:], out[enters:]


def _start(drivers: Sequence[Driver]) -> _State:
    count = len(drivers)
    slow, join = np.full((count, 3), np.inf), np.full((count, 3), np.inf)
    for k, driver in enumerate(drivers):
        if driver.route.slow:
            slow[k] = driver.route.slow[0]
        if driver.route.joins:
            join[k] = driver.route.joins[0]
    state = _State(
        at=np.array([driver.x for driver in drivers]),
        speed=np.array([driver.speed for driver in drivers]) * 0.8,
        lane=np.array([driver.lane for driver in drivers]),
        shift=np.zeros(count),
        length=np.array([driver.length for driver in drivers]),
        wanted=np.array([driver.speed for driver in drivers]),
        active=np.array([driver.wakes == -np.inf for driver in drivers]),
        slow=slow,
        join=join,
        later_slow=[list(driver.route.slow[1:]) for driver in drivers],
        later_joins=[list(driver.route.joins[1:]) for driver in drivers],
        wakes=np.array([np.inf if driver.wakes == -np.inf else driver.wakes for driver in drivers]),
        entrance=drivers[0].x,
    )
    state.active[0] = False
    return state


def _enter(state: _State) -> None:
    """Puts the first vehicle on the street, as fast as the one ahead of it allows."""
    x = state.at + state.shift - state.entrance
    reach = (state.length + state.length[0]) / 2
    same = state.lane == state.lane[0]
    state.active[same & (x > -reach - 6) & (x < reach + 3)] = False
    state.active[0] = True
    state.at[0] = state.entrance
    ahead = np.nonzero(same & state.active & (x > 0))[0]
    state.speed[0] = state.wanted[0]
    if len(ahead):
        leader = ahead[np.argmin(x[ahead])]
        gap = max(float(x[leader] - reach[leader]) - _STANDSTILL_M, 0)
        state.speed[0] = min(state.wanted[0], float(np.sqrt(state.speed[leader] ** 2 + 2 * _BRAKING * gap)), gap + 0.5)
    behind = np.nonzero(same & state.active & (x < 0))[0]
    if len(behind):  # who follows has seen it for a while
        state.speed[behind] = np.minimum(
            state.speed[behind],
            np.sqrt(state.speed[0] ** 2 + _BRAKING * np.maximum(-x[behind] - reach[behind] - 2, 0)),
        )


def _wake(state: _State) -> None:
    """Puts vehicles on the street whose time has come; those whose place is taken stay away."""
    for one in np.nonzero(state.wakes <= state.at[0])[0].tolist():
        state.wakes[one] = np.inf
        same = state.active & (state.lane == state.lane[one])
        gap = np.abs((state.at + state.shift)[same] - state.at[one])
        state.active[one] = bool((gap > (state.length[same] + state.length[one]) / 2 + _ROOM_TO_WAKE_M).all())


def _accelerations(state: _State, stops: Sequence[Stop], closed: np.ndarray) -> np.ndarray:
    """`(N,)` m / s2."""
    x = state.at + state.shift
    present = np.nonzero(state.active)[0]
    order = present[np.lexsort((x[present], state.lane[present]))]
    behind, ahead = order[:-1], order[1:]
    together = state.lane[behind] == state.lane[ahead]
    behind, ahead = behind[together], ahead[together]
    gap, closing = np.full(len(x), 1e3), np.zeros(len(x))
    gap[behind] = x[ahead] - x[behind] - (state.length[ahead] + state.length[behind]) / 2
    closing[behind] = state.speed[behind] - state.speed[ahead]
    wanted = state.wanted
    start, end, limit = state.slow.T
    turning = np.nonzero(state.at < end)[0]
    if len(turning):
        before = np.maximum(start[turning] - state.at[turning], 0)
        wanted = wanted.copy()
        wanted[turning] = np.minimum(
            wanted[turning], np.sqrt(limit[turning] ** 2 + 2 * _CURVE_BRAKING * np.minimum(before, 1e3))
        )
    out = _wanted_acceleration(state.speed, wanted, gap, closing)
    front = x + state.length / 2
    for stop, shut in zip(stops, closed):
        here = np.nonzero((state.lane == stop.lane) & state.active & (front < stop.x + 0.3))[0]
        if not len(here):
            continue
        if stop.gives_way is not None and not shut:
            shut = _comes(state, x, *stop.gives_way)
        if shut:
            room = np.maximum(stop.x - front[here], 0.05)
            speed = state.speed[here]
            able = speed**2 / (2 * room) <= _WILLING
            here, room, speed = here[able], room[able], speed[able]
            brake = _wanted_acceleration(speed, wanted[here], room + _STANDSTILL_M - 0.3, speed)
            out[here] = np.minimum(out[here], brake)
    return np.clip(out, -_HARDEST, _ACCELERATION)


def _comes(state: _State, x: np.ndarray, lane: int, place: float) -> bool:
    """Whether somebody on `lane` is at `place` or will be there soon."""
    along = x[(state.lane == lane) & state.active] - place
    speed = state.speed[(state.lane == lane) & state.active]
    return bool(((along < 9) & (along > -14 - _PATIENCE_S * speed)).any())


def way_of(route: Route, times_s: np.ndarray, x: np.ndarray, h: float = 0.0) -> Way | None:
    """What a vehicle does that is `x` metres along its route at `times_s`; `None` if it never is on the street.

    Moments at which nothing changes, and every second one where it drives straight on, are left out.
    """
    keep = ~np.isnan(x)
    if keep.sum() < 2:
        return None
    times_s, x = times_s[keep], x[keep]
    if not route.slow:
        some = np.arange(0, len(x), 2)
        if some[-1] != len(x) - 1:
            some = np.append(some, len(x) - 1)
        times_s, x = times_s[some], x[some]
    moves = np.abs(np.diff(x)) > 1e-3
    needed = np.ones(len(x), bool)
    needed[1:-1] = moves[1:] | moves[:-1]
    times_s, x = times_s[needed], x[needed]
    s, t, yaw = route.at(x)
    return Way(
        times_s=tuple(times_s.tolist()),
        s=tuple(s.tolist()),
        t=tuple(t.tolist()),
        yaw=tuple(yaw.tolist()),
        h=(h,) * len(x),
    )
