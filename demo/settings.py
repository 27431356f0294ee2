"""The section `demo_data` of params.yaml."""

from dataclasses import dataclass

from inpformer.config import require


@dataclass(frozen=True)
class DemoData:
    """What to render: the side of the images in pixels, and images a category."""

    seed: int = 0
    image_size: int = 256
    train_images: int = 100
    test_images: int = 60

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.image_size >= 64, "image_size", self.image_size, "at least 64, or defects get too small")
        require(self.train_images >= 1, "train_images", self.train_images, "at least 1")
        require(self.test_images >= 6, "test_images", self.test_images, "at least 6: some good, one a defect")
