"""The held-out set: combinations that training excludes and evaluation uses.

Seeds from FIRST_SEED on; a tenth of the pairs of colour and shape; and for every place a quarter of the picture, where
the shape never is in that place.
"""

from services.encoder.bundled.places import PLACES
from services.encoder.bundled.scenes import Pose
from services.encoder.bundled.shapes import COLOURS, SHAPES

FIRST_SEED = 1 << 40
PAIRS = tuple(
    (colour, shape)
    for number, colour in enumerate(COLOURS)
    for position, shape in enumerate(SHAPES)
    if (position + 3 * number) % 10 == 7
)


def is_pair(colour: str | None, shape: str | None) -> bool:
    return (colour, shape) in PAIRS


def is_layout(place: str | None, pose: Pose) -> bool:
    if place is None:
        return False
    quarter = 2 * (pose.y > 0.5) + (pose.x > 0.5)
    return quarter == PLACES.index(place) % 4
