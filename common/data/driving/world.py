"""Traffic on a street: where the camera and everything else is at any real time.

Lengths are in heights of the camera, as in `common.data.streets`; times are in frames.
"""

from typing import NamedTuple

import numpy as np

from common.data.driving.sprites import VARIANTS
from common.data.streets.street import CAR, END, PERSON, TREE, StreetDraws

NEAR = 0.45  # depth at which a thing leaves the scene; it comes in again at depth END
SPAN = END - NEAR
KINDS = np.repeat((CAR, PERSON, TREE), (5, 4, 4))  # class of each thing


class Positions(NamedTuple):
    """Positions of all things at one time, `[n]` each.

    Attributes:
        aside: Distance to the right of the camera.
        depth: Distance from the camera, from `NEAR` to `END`.
        ids: Number of each thing in this scene; a thing that comes in again has a new one.
    """

    aside: np.ndarray
    depth: np.ndarray
    ids: np.ndarray


class World:
    """Motion of the camera and of cars, people and trees in one scene.

    Cars keep their lane and its speed, oncoming cars are on the left. People walk along the
    pavement, and some cross the road. The speed of the camera changes smoothly.

    Args:
        draws: Random numbers of one scene.
        road: Half the width of the road.
        walls: Half the distance between the walls.

    Attributes:
        variants: Number of the colour and form of each thing, `[n]`.
        right: Whether each thing is on the right side, `[n]`.
    """

    def __init__(self, draws: StreetDraws, road: float, walls: float) -> None:
        n = len(KINDS)
        self.variants = draws(0.0, float(VARIANTS), n)[0].astype(np.int64)
        self.right = draws(0.0, 1.0, n)[0] < 0.5
        side, where = np.where(self.right, 1.0, -1.0), draws(0.0, 1.0, n)[0]
        car, person = KINDS == CAR, KINDS == PERSON
        lane, path = road * (0.45 + 0.15 * where), road + (walls - road) * (0.2 + 0.6 * where)
        self._aside = side * np.where(car, lane, path)
        # Things of one kind are spread over the street, so that few are at the same place.
        order = draws(0.0, 1.0, n)[0]
        places = [(KINDS[:i] == KINDS[i]).sum() / (KINDS[i] == KINDS).sum() for i in range(n)]
        self._start = SPAN * (np.array(places) + 0.8 * order / (KINDS == CAR).sum())
        ahead, oncoming = draws(0.05, 0.3, 2)[0]
        walk = np.where(draws(0.0, 1.0, n)[0] < 0.5, 1, -1) * draws(0.02, 0.06, n)[0]
        self._speed = np.where(
            car, np.where(self.right, ahead, -oncoming), np.where(person, walk, 0.0)
        )
        crosses = person & (draws(0.0, 1.0, n)[0] < 0.3)
        self._reach = np.where(crosses, walls - 0.25, 0.0)
        self._pace, self._phase = draws(0.03, 0.06, n)[0], draws(0.0, 6.28, n)[0]
        self._ego = draws(0.0, 0.3, 1)[0, 0], draws(0.0, 1.0, 1)[0, 0], draws(0.1, 0.4, 1)[0, 0]

    def travelled(self, t: float) -> float:
        """Distance that the camera has moved forward since time 0."""
        mean, swing, rate = self._ego  # the speed is mean (1 + swing cos(rate t))
        return float(mean * (t + swing / rate * np.sin(rate * t)))

    def at(self, t: float) -> Positions:
        """Positions at a time."""
        ahead = self._ahead(t)
        turn = np.floor(ahead / SPAN).astype(np.int64)
        rank = np.where(turn >= 0, 2 * turn, -2 * turn - 1)  # 0, 1, 2, … without negative ones
        ids = np.arange(len(KINDS)) + len(KINDS) * rank
        return Positions(self._asides(t), NEAR + ahead - SPAN * turn, ids)

    def moved(self, t0: float, t1: float) -> tuple[np.ndarray, np.ndarray]:
        """Distances aside and depths at `t1` of the things that are in the scene at `t0`.

        A thing that has left the scene by then has a depth below `NEAR`, or above `END`.
        """
        return self._asides(t1), self.at(t0).depth + self._ahead(t1) - self._ahead(t0)

    def _ahead(self, t: float) -> np.ndarray:
        return self._start + self._speed * t - self.travelled(t)

    def _asides(self, t: float) -> np.ndarray:
        across = self._reach * np.sin(self._pace * t + self._phase)
        return np.where(self._reach > 0, across, self._aside)
