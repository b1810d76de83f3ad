"""What DICOM says, what no radiograph looks like, and which images are copies."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraylab.data import pixels
from xraylab.data.audit import duplicates
from xraylab.data.image_facts import Look
from xraylab.data.pixels import Picture
from xraylab.inference import warnings
from xraylab.inference.copies import Copy, SeenHashes, rough_hash
from xraylab.inference.warnings import Expected, ImageFacts, ImageWarning

FRONTAL = Expected((), (), (), chest=True)
UNKNOWN = Expected((), (), (), chest=False)
HANDS = Expected(("DX",), ("PA", "LL"), ("HAND",), chest=False)


def codes(facts: dict[str, str], expected: Expected) -> list[str]:
    return [each.code for each in warnings.of_dicom(facts, expected)]


@pytest.mark.parametrize(
    ("facts", "expected", "warned"),
    [
        ({}, FRONTAL, []),
        ({"modality": "DX", "view": "PA", "body_part": "CHEST"}, FRONTAL, []),
        ({"modality": "CR", "view": "LLD"}, FRONTAL, []),  # a decubitus film is frontal
        ({"modality": "CT", "body_part": "HEAD"}, FRONTAL, ["no_radiograph", "other_body_part"]),
        ({"modality": "CT"}, UNKNOWN, ["no_radiograph"]),
        ({"view": "LL"}, FRONTAL, ["lateral"]),
        ({"view": "LATERAL"}, UNKNOWN, []),
        ({"view": "LL"}, HANDS, []),
        ({"body_part": "HAND"}, FRONTAL, ["other_body_part"]),
        ({"body_part": "HAND"}, HANDS, []),
        ({"body_part": "CHEST"}, HANDS, ["other_body_part"]),
        ({"body_part": "HAND"}, UNKNOWN, []),
        ({"modality": "MG", "body_part": "BREAST"}, FRONTAL, ["other_body_part"]),
        ({"modality": "MG"}, UNKNOWN, []),
        ({"modality": "MG"}, Expected(("MG",), (), (), chest=False), []),
    ],
)
def test_dicom_is_believed_where_the_training_images_differ(
    facts: dict[str, str], expected: Expected, warned: list[str]
) -> None:
    assert codes(facts, expected) == warned


def test_a_statement_of_dicom_names_what_it_says() -> None:
    (one,) = warnings.of_dicom({"body_part": "HAND"}, FRONTAL)
    assert one.text == "DICOM says body part HAND, and the training images show CHEST"
    (one,) = warnings.of_dicom({"view": "RL"}, FRONTAL)
    assert one.text == "DICOM says view RL: a lateral image, and the training images are frontal"


def decoded(image: Image.Image, **how: object) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    file.seek(0)
    return pixels.decode_stream(file, "image")


def film(seed: int, size: int = 96) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (18, 18), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def of_pixels(image: Image.Image) -> list[ImageWarning]:
    picture = decoded(image)
    gray = pixels.fit(pixels.gray(picture.levels), 64, "squash")
    return list(warnings.of_pixels(gray, ImageFacts.of(picture)))


def test_colours_noise_and_a_single_level_are_no_radiograph() -> None:
    gray = film(0)
    assert of_pixels(gray) == of_pixels(gray.convert("RGB")) == of_pixels(gray.convert("RGBA")) == []
    half = gray.convert("RGB")
    half.paste((200, 40, 40), (0, 0, 96, 48))
    (colour,) = of_pixels(half)
    assert colour == ImageWarning("no_radiograph", "looks like no radiograph: 50 % of its pixels are coloured")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8))
    assert [each.text for each in of_pixels(noise)] == [
        "looks like no radiograph: neighbouring pixels differ as in noise"
    ]
    assert [each.code for each in of_pixels(Image.new("L", (96, 96), 7))] == ["no_radiograph"]


def test_a_tint_is_no_colour() -> None:
    levels = np.asarray(film(1), np.float64)
    tinted = np.stack([levels * 0.9, levels * 0.95, levels], axis=2).astype(np.uint8)
    assert of_pixels(Image.fromarray(tinted)) == []


def test_an_image_has_each_code_once_in_their_order() -> None:
    shuffled = [ImageWarning(code, f"{code} {number}") for number in (1, 2) for code in reversed(warnings.CODES)]
    assert warnings.in_order(shuffled) == [ImageWarning(code, f"{code} 1") for code in warnings.CODES]


def table(looks: list[Look]) -> pd.DataFrame:
    facts = [{key: getattr(look, key) for key in ("perceptual_hash", "inside_hash", "contrast")} for look in looks]
    return pd.DataFrame(facts).assign(id=[str(number) for number in range(len(looks))])


def changed(image: Image.Image) -> list[Image.Image]:
    """Copies that hashes tell."""
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=50)
    framed = Image.new("L", (image.width + 16, image.height + 16), 255)
    framed.paste(image, (8, 8))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return [image, image.resize((61, 61)), Image.open(jpeg), framed, mirrored, image.point(lambda level: 255 - level)]


def test_copies_are_those_of_the_external_test() -> None:
    seen = [film(seed) for seed in range(30)]
    looks = [Look.of(np.asarray(image)) for image in [*seen, Image.new("L", (9, 9), 3)]]
    hashes = SeenHashes.of(table(looks[:20]), table(looks[20:]))
    pictures = [
        *changed(seen[4]),
        *changed(seen[25]),
        *(film(seed) for seed in range(100, 110)),
        Image.new("L", (9, 9), 3),
    ]
    queried = [Look.of(np.asarray(image)) for image in pictures]
    copies = [hashes.find(look) for look in queried]
    expected = duplicates.find_copies(table(queried), table(looks))
    assert list(expected) == ["4"] * 6 + ["25"] * 6 + [""] * 11
    assert [copy.split if copy else "" for copy in copies] == ["train"] * 6 + ["valid"] * 6 + [""] * 11
    assert copies[0] == Copy("train", 0)
    assert replace(hashes, whole=hashes.whole[:, :0], inside=hashes.inside[:, :0]).find(queried[0]) is None


@pytest.mark.parametrize("size", [(90, 70), (256, 256), (500, 301)])
def test_a_rough_hash_finds_whatever_the_exact_one_finds(size: tuple[int, int]) -> None:
    seen = [film(seed).resize(size) for seed in range(20)]
    looks = [Look.of(np.asarray(image)) for image in seen]
    hashes = SeenHashes.of(table(looks[:10]), table(looks[10:]))
    copies = [np.asarray(each) for image in seen[:3] for each in changed(image)]
    strangers = [np.asarray(film(seed).resize(size)) for seed in range(100, 110)]
    assert all(hashes.find(Look.of(each)) and hashes.may_hold(each) for each in copies)
    assert not any(hashes.find(Look.of(each)) or hashes.may_hold(each) for each in strangers)
    for each in [*copies, *strangers]:
        exact, rough = (int(text, 16) for text in (Look.of(each).perceptual_hash, rough_hash(each)))
        assert (exact ^ rough).bit_count() <= 10


def test_hashes_are_not_computed_where_nobody_looks_for_copies() -> None:
    picture = decoded(film(0))
    assert ImageFacts.of(picture, lambda gray: False).look is None
    assert ImageFacts.of(picture).look == Look.of(picture.levels)
    assert not ImageFacts.of(picture).flat


def test_the_correlation_of_neighbours_is_numpys() -> None:
    image = np.asarray(film(3, 64))
    expected = min(
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in ((image[:, :-1], image[:, 1:]), (image[:-1], image[1:]))
    )
    assert warnings._smoothness(image) == pytest.approx(expected)
    assert warnings._smoothness(np.full((64, 64), 7, np.uint8)) == 1.0
    speck = np.zeros((64, 64), np.uint8)
    speck[30, 63] = 9  # the columns before the last have no contrast
    assert warnings._smoothness(speck) == 1.0
