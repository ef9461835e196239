"""Boxes: as models write them, in pixels, and drawn."""

import numpy as np
import pytest
from PIL import Image

from mlx_gemma4.cli.describe import drawing
from mlx_gemma4.cli.describe.boxes import Box, boxes_prompt, find_boxes
from mlx_gemma4.cli.describe.drawing import check_target, draw_boxes, write_picture
from mlx_gemma4.cli.errors import InputError, UsageError

CAT = '{"box_2d": [100, 200, 300, 400], "label": "cat"}'
DOG = '{"label": "dog", "box_2d": [0, 0, 1000, 1000]}'
THE_CAT = Box("cat", left=0.2, top=0.1, right=0.4, bottom=0.3)
COLOUR = "#E69F00"
THE_DOG = Box("dog", 0, 0, 1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        f"[{CAT}, {DOG}]",
        f"```json\n[\n{CAT},\n{DOG}\n]\n```",
        f"```\n{CAT}\n{DOG}```",
        f"Sure {{there}} are two: {CAT} and {DOG}. Anything else?",
        f'{{"objects": [{CAT}, [{DOG}]], "count": 2}}',
        f'[{CAT}, {DOG}, {{"box',  # cut off
        f"[{CAT}, {DOG},]",
        f"[{CAT.replace(']', ',]')}, {DOG.replace('}', ', }')}]",
    ],
)
def test_ways_to_write_boxes(answer):
    assert find_boxes(answer) == ([THE_CAT, THE_DOG], 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "There is a cat.",
        "In the box: a cat {or so}.",
        "[]",
        "[100, 200, 300, 400]",
        "{" * 5000,
        '{"a":' * 3000,
    ],
)
def test_answers_without_boxes(answer):
    assert find_boxes(answer) == ([], 0)


@pytest.mark.parametrize(
    "box",
    [
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        '"1 2 3"',
        '[1, 2, 3, "four"]',
        '"1.2.3.4"',
        "[1, 2, true, 4]",
        "[1, NaN, 3, 4]",
        "[1, 2, Infinity, 4]",
        "[5, 2, 5, 4]",
        "[1001, 2, 1002, 4]",
        "null",
    ],
)
def test_boxes_that_are_none_are_counted(box):
    assert find_boxes(f'[{{"box_2d": {box}, "label": "x"}}, {CAT}]') == ([THE_CAT], 1)


@pytest.mark.parametrize(
    "rest",
    [
        '{"box_2d": [1, 2, 3',
        '{"box_2d": [1, 2, 3, 4], "label": "ca',
        '{"box_2d": [1, 2, 3, 4],',
        "{'box_2d': 'gone'}",
        "{'box_2d' [1, 2, 3, 4]; box_2d: }",
    ],
)
def test_boxes_that_cannot_be_read_are_counted(rest):
    assert find_boxes(f"The box_2d are [{CAT}, {rest}") == ([THE_CAT], 1)


BOX = "[100, 200, 300, 400]"


@pytest.mark.parametrize(
    "written",
    [
        f"{{'box_2d': {BOX}, 'label': 'cat'}}",
        f"[{{'label': 'cat', 'box_2d': {BOX},}},]",
        f"{{box_2d: {BOX}, label: cat}}",
        f"{{box_2d = {BOX}, label = cat}}",
        f'{{"bbox_2d": {BOX}, "label": "cat"}}',
        f'{{"bbox": {BOX}, "name": "cat"}}',
        f'{{"label": "cat", "box": {BOX}}}',
        '{"box_2d": ["100", "200", "300", "400"], "label": "cat"}',
        '{"box_2d": "[100, 200, 300, 400]", "label": "cat"}',
        '{"box_2d": "100 200 300 400", "label": "cat"}',
        '{"box_2d": [100 200 300 400], "label": "cat"}',
        '{"box_2d": (100, 200, 300, 400), "label": "cat"}',
        '{"box_2d": [[100, 200], [300, 400]], "label": "cat"}',
        '{"box_2d": {"y1": 100, "x1": 200, "y2": 300, "x2": 400}, "label": "cat"}',
        '{"box_2d": {"xmin": 200, "ymin": 100, "xmax": 400, "ymax": 300},'
        ' "label": "cat"}',
        f'{{"box": {{"box_2d": {BOX}, "label": "cat"}}}}',
        f'{{"box_2d": {BOX}, "label": "cat"',
        f'[{{"box_2d": {BOX}, "label": "cat"]',
        f'```json\n[{{"box_2d": {BOX}, "label": "cat"\n```',
        f'{{"box_2d": {BOX} "label": "cat"}}',
        f'{{"box_2d": {BOX}, // the first\n "label": "cat"}}',
        f"{{'box_2d': {BOX}, 'label': 'cat', 'sure': True, 'more': None}}",
    ],
)
def test_what_is_meant(written):
    assert find_boxes(written) == ([THE_CAT], 0)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ('"a cup, [blue, ] and, }"', "a cup, [blue, ] and, }"),
        ("'a cup, [blue, ] and, }'", "a cup, [blue, ] and, }"),
        ('"two\nlines"', "two lines"),
        ("'two\nlines'", "two lines"),
        ("'the cat's bowl'", "the cat's bowl"),
        ('"a 5" pipe"', 'a 5" pipe'),
        ("'say \"no\"'", 'say "no"'),
        (r"'it\'s'", "it's"),
        ("'猫, 犬'", "猫, 犬"),
    ],
)
def test_labels_of_all_kinds(label, shown):
    dog = f'{{"label": "dog", "box_2d": {BOX}}}'
    answer = f'[{{"box_2d": {BOX}, "label": {label}}}, {dog}]'
    assert [box.label for box in find_boxes(answer)[0]] == [shown, "dog"]


def test_a_loop_is_found_once():
    """200 times the same, cut off: one box, and one that cannot be drawn."""
    answer = "[" + ", ".join([CAT, DOG] * 100) + ', {"box_2d": [1,'
    assert find_boxes(answer) == ([THE_CAT, THE_DOG], 1)


@pytest.mark.slow
def test_anything_is_read_in_time_and_without_a_fault():
    """Real answers with letters changed, left out, repeated."""
    draw = np.random.RandomState(8)
    whole = f"[{CAT}, {DOG}, {{'bbox_2d': (1, 2, 3, 4), 'label': 'the cat's'}}]"
    for _ in range(1500):
        letters = list(whole)
        for at in draw.randint(0, len(letters), draw.randint(1, 6)):
            letters[at] = draw.choice(list("{}[]()'\",:= 1a\\\n")) * draw.randint(0, 3)
        boxes, unusable = find_boxes("".join(letters))
        assert unusable >= 0 and len(set(boxes)) == len(boxes)
    for hard in ("{" * 3000, "{'a':" * 2000, "{box_2d:[" * 1000, "{'box_2d':'" * 1000):
        assert find_boxes(hard)[0] == []


def test_numbers_too_large_for_a_float():
    nines = "9" * 400
    found = find_boxes(f'{{"box_2d": [0, -{nines}, {nines}, 500]}}')
    assert found == ([Box("object", 0, 0, 0.5, 1)], 0)


def test_corners_in_any_order_and_beyond_the_edge():
    swapped = '{"box_2d": [300, 400.0, 100, 200], "label": "cat"}'
    beyond = '{"box_2d": [-5, -1, 1003, 2000], "label": "dog"}'
    assert find_boxes(swapped + beyond) == ([THE_CAT, THE_DOG], 0)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("", ""),
        (', "label": null', ""),
        (', "label": " two\\n words "', "two words"),
        (', "label": 7', "7"),
    ],
)
def test_labels(label, shown):
    (box,), _ = find_boxes(f'{{"box_2d": [1, 2, 3, 4]{label}}}')
    assert box.label == (shown or "object")


@pytest.mark.parametrize(
    ("box", "size", "pixels"),
    [
        (THE_CAT, (1000, 500), (200, 50, 400, 150)),
        (THE_DOG, (640, 480), (0, 0, 640, 480)),
        (THE_DOG, (1, 1), (0, 0, 1, 1)),
        (Box("dot", 1, 1, 1, 1), (10, 10), (9, 9, 10, 10)),
        (Box("dot", 0.5, 0.5, 0.501, 0.501), (10, 10), (5, 5, 6, 6)),
    ],
)
def test_pixels(box, size, pixels):
    assert box.pixels(*size) == pixels


def test_the_prompt_names_the_form():
    assert boxes_prompt(None).startswith("Find the objects in this image. Answer only")
    assert boxes_prompt("The cats.").startswith("The cats. Answer only with JSON")
    assert "[y1, x1, y2, x2] normalised to 0-1000" in boxes_prompt(None)


@pytest.mark.parametrize("ground", ["black", "white", "#E69F00", "grey"])
def test_lines_stand_out_from_any_ground(ground):
    """Along the box run a dark, a coloured and a light line."""
    image = Image.new("RGB", (520, 520), ground)
    drawn = draw_boxes(image, [Box("cat", 0.25, 0.25, 0.75, 0.75)])
    assert image.getcolors() == [(520 * 520, image.getpixel((0, 0)))]
    assert drawn.size == image.size
    across = np.asarray(drawn)[260, 130:134].tolist()
    assert across == [[0, 0, 0], [230, 159, 0], [230, 159, 0], [255, 255, 255]]
    outside = np.asarray(drawn)[:, 390:]
    assert (outside == np.asarray(image)[:, 390:]).all()


def test_equal_labels_share_a_colour():
    boxes = [Box(label, 0, 0, 1, 1) for label in ("cat", "dog", "cat")]
    colours = drawing.label_colours(boxes)
    assert list(colours) == ["cat", "dog"] and len(set(colours.values())) == 2


@pytest.mark.parametrize(
    ("area", "taken", "place"),
    [
        ((40, 40, 60, 60), [], (40, 30, 70, 40)),  # above
        ((0, 0, 60, 60), [], (0, 0, 30, 10)),  # no room above
        ((40, 40, 60, 60), [(35, 35, 45, 38)], (40, 40, 70, 50)),  # above is taken
        ((90, 40, 99, 60), [], (70, 30, 100, 40)),  # as far right as it goes
        ((0, 0, 100, 100), [(0, 0, 100, 12)], (0, 90, 30, 100)),
        ((40, 40, 60, 60), [(0, 0, 100, 100)], (40, 30, 70, 40)),  # nothing is free
    ],
)
def test_labels_find_a_free_place(area, taken, place):
    assert drawing.free_place((100, 100), area, (30, 10), taken) == place


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 30)])
@pytest.mark.parametrize("label", ["cat", "x" * 400, "猫 кот", "\x1b[0m\x07", "🐈"])
def test_any_picture_and_label(size, label):
    box = Box(label, 0.2, 0.2, 0.4, 0.4)
    image = Image.new("RGB", size, "grey")
    drawn = draw_boxes(image, [box, box])
    assert drawn.size == size and drawn.tobytes() != image.tobytes()


def test_every_label_can_be_read():
    """Black or white on its plate, at least at WCAG's ratio for text."""
    for colour in drawing.COLOURS:
        light = drawing.luminance(colour)
        ratio = (light + 0.05) / 0.05 if light > drawing.EVEN else 1.05 / (light + 0.05)
        assert ratio >= 4.5, colour


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "a.webp"])
def test_writing(tmp_path, name):
    image = Image.new("RGB", (8, 6), "red")
    check_target(tmp_path / name)
    write_picture(image, tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert written.size == (8, 6)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("a.gif", UsageError, r"--boxes writes \.png, \.jpg"),
        ("a", UsageError, "--boxes writes"),
        ("folder.png", InputError, "is a folder"),
        ("gone/a.png", InputError, "There is no folder"),
    ],
)
def test_targets_that_cannot_be_written(tmp_path, name, kind, told):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(kind, match=told):
        check_target(tmp_path / name)


def test_a_write_that_fails(tmp_path):
    with pytest.raises(InputError, match=r"Cannot write .*full\.png: Is a directory"):
        (tmp_path / "full.png").mkdir()
        write_picture(Image.new("RGB", (8, 6)), tmp_path / "full.png")
    with pytest.raises(InputError, match=r"Cannot write .*wide\.webp"):
        write_picture(Image.new("RGB", (20000, 2)), tmp_path / "wide.webp")


@pytest.mark.parametrize("area", [(0.5, 0.5, 0.5001, 0.5001), (0.5, 0.5, 0.502, 0.9)])
def test_small_boxes_are_drawn_within_themselves(area):
    """Not as a blot of the line's width over their neighbours."""
    left, top, right, bottom = Box("x", *area).pixels(2000, 2000)
    image = Image.new("RGB", (2000, 2000), "white")
    sizes = drawing.Sizes.of(*image.size)
    ink = drawing.ImageDraw.Draw(image)
    drawing.outline(ink, (left, top, right - 1, bottom - 1), COLOUR, sizes)
    drawn = np.argwhere((np.asarray(image) != 255).any(-1))
    assert drawn.min(0).tolist() == [top, left]
    assert drawn.max(0).tolist() == [bottom - 1, right - 1]
