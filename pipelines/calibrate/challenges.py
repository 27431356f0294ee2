"""The pictures that go with a detector, for whoever loads it to check that it judges as it does here."""

from collections.abc import Sequence

from inpformer.images.opening import read_file
from inpformer.judging.challenge import Challenge
from inpformer.judging.detector import Detector
from pipelines.calibrate.held_out import GoodImage

# In all: they are judged again wherever the detector is loaded to serve, and held there.
MOST_PICTURES, MOST_BYTES, MOST_VIEWS = 16, 2**24, 64


def challenges(detector: Detector, images: Sequence[GoodImage], scores: Sequence[float]) -> tuple[Challenge, ...]:
    """Of each category the image whose score is nearest to the threshold, with the score that the detector as a whole
    gives it: `scores` may be of models of folds. Images that are too many or too large for that are left out.
    """
    chosen: list[Challenge] = []
    size = views = 0
    for category, limits in sorted(detector.thresholds.items()):
        own = [n for n, image in enumerate(images) if image.category == category]
        if not own or len(chosen) == MOST_PICTURES:
            continue
        nearest = images[min(own, key=lambda n: abs(scores[n] - limits.threshold))]
        content = read_file(nearest.path, str(nearest.path))
        picture = detector.open(content, str(nearest.path))
        more = detector.count_views(picture.size)
        if size + len(content) > MOST_BYTES or views + more > MOST_VIEWS:
            continue
        size, views = size + len(content), views + more
        score = float(detector.predict([picture], [category]).scores[0])
        chosen.append(Challenge(content, category, score))
    return tuple(chosen)
