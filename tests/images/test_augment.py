"""The 22 forms of few-shot training."""

import torch

from inpformer.images.augment import ANGLES, SHIFTS, augmentations


def picture() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic")[0]


def test_they_are_22_different_forms_of_the_same_shape() -> None:
    forms = [form(picture()) for form in augmentations()]
    assert len(forms) == 1 + len(ANGLES) + len(SHIFTS) + 5 == 22
    assert all(form.shape == (3, 40, 40) and torch.isfinite(form).all() for form in forms)
    pairs = [(a, b) for a in range(22) for b in range(a)]
    assert min(float((forms[a] - forms[b]).abs().mean()) for a, b in pairs) > 1e-3
    assert torch.equal(forms[0], picture())


def test_flip_turns_and_grey_are_exact() -> None:
    flip, grey, *turns = augmentations()[17:]
    assert torch.equal(flip(picture()), picture().flip(-1))
    for number, turn in enumerate(turns, start=1):
        assert torch.equal(turn(picture()), torch.rot90(picture(), number, (1, 2)))
    red, green, blue = picture()
    torch.testing.assert_close(grey(picture())[2], 0.299 * red + 0.587 * green + 0.114 * blue)


def test_a_turn_by_a_quarter_and_back_keeps_the_middle() -> None:
    left, right = augmentations()[7], augmentations()[8]  # +π/4 and -π/4
    inside = slice(15, 25)
    back = right(left(picture()))[:, inside, inside]
    torch.testing.assert_close(back, picture()[:, inside, inside], atol=0.05, rtol=0)


def test_a_shift_moves_by_a_tenth_of_half_the_side_and_reflects() -> None:
    shifted = augmentations()[9](picture())  # (0.1, 0.1): 2 of 40 pixels
    torch.testing.assert_close(shifted[:, :-2, :-2], picture()[:, 2:, 2:])
    torch.testing.assert_close(shifted[:, :-2, -1], picture()[:, 2:, -2])
