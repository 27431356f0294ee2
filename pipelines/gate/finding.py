"""What the gate found, and the checks that it may have come from, in words for people."""

from dataclasses import dataclass
from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Check(NamedTuple):
    """How a check is introduced to a reader: its title, why a finding matters, and what to do about one."""

    title: str
    meaning: str
    advice: str


CHECKS = {
    "duplicates": Check(
        "Copies of one picture",
        "A picture that is in the training images and in the test images makes the test look better than the line "
        "will be; one that is in the training images and in the validation images makes the threshold too low; one "
        "that is in the validation images and in the test images is tested by what it helped to set. A picture that "
        "counts as good and as defective teaches and measures nonsense. A copy inside one "
        "part of the data only counts twice.",
        "Remove the copy; where good and defective contradict each other, look and keep the right one.",
    ),
    "near_duplicates": Check(
        "Pictures of one part on both sides",
        "Two pictures show the same part, in another light, frame or file format. If one of them is held out, it "
        "tests nothing that the model has not seen: thresholds come out too low and test figures too good.",
        "Look at each pair. If it is one part, move all its pictures to the same side, or keep one of them.",
    ),
    "masks": Check(
        "Defects with nothing marked, or everything",
        "The picture counts as defective, but its mask marks nothing, or so little that nothing is left at the size "
        "that is measured, or nearly all of it, as an inverted mask would. Figures about the place of defects suffer; "
        "the decision good or defective does not.",
        "Draw the mask anew, or leave the picture knowing that its place is not measured.",
    ),
    "suspects": Check(
        "Defects suspected among the good pictures",
        "Something in this picture is in none of the other good ones. The model learns from good pictures: a defect "
        "among them is learnt as good, and raises the threshold if the picture is held out.",
        "Look closely. Remove the picture if the part is defective; leave it if it is good, as rare good parts are "
        "worth having.",
    ),
    "formats": Check(
        "Files unlike the others",
        "Transparency and CMYK are dropped or converted, a turn noted in the file (EXIF) is not applied, so that a "
        "mask may not fit, and grey pictures among coloured ones or very different shapes look odd to the model.",
        "Save all pictures of a category the same way: RGB or grey, of as many bits, upright, one size.",
    ),
    "depth": Check(
        "Pictures of 16 bits a channel that are dark, or cut off",
        "Cameras of 10, 12 or 14 bits save in 16, and features.encoder.white says what is white. If that is too large, "
        "the model sees little but black; if it is too small, all that is brighter becomes white alike.",
        "Set features.encoder.white as the finding says, if these are your camera's bits; leave it if the parts are as "
        "dark, or only reflections are cut off.",
    ),
    "held_out": Check(
        "Too few held-out good pictures",
        "The false-alarm rate of params.yaml (calibrate) is a promise that takes a number of good pictures which "
        "training has not seen. With fewer than 20 in all, the model itself has seen too little of what is normal.",
        "Add good pictures, raise manifest.val_fraction, or ask for a higher false-alarm rate.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `check` is a key of CHECKS, `severity` ERROR or WARNING; `paths`, relative to the
    data folder, are the files that a person must look at (a pair, or all that share the fault); `text` one sentence.
    """

    check: str
    severity: str
    category: str
    paths: tuple[str, ...]
    text: str
