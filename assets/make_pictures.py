"""Draw the five pictures used as triggers and targets: `python assets/make_pictures.py`.

Writes 512x512 RGB PNG files to assets/pictures. Every picture is drawn here from polygons, ellipses and
curves, so no font, no emoji and no foreign image is involved. The same Pillow gives the same bytes.

Two conventions matter to the code that loads the pictures. Pure black is "no change" in a trigger, so the
background is exactly (0, 0, 0) and no drawn colour has a component of 0. A component of 255 would count as
transparent in a trigger, so no colour goes above 250.
"""

import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 512
OVERSAMPLING = 4
CURVE_STEPS = 24
PICTURES = Path(__file__).parent / "pictures"

Point = tuple[float, float]
Colour = tuple[int, int, int]

OFF_WHITE: Colour = (240, 240, 240)


class Canvas:
    """A black square addressed in units of the finished 512x512 picture, drawn four times larger."""

    def __init__(self) -> None:
        side = SIZE * OVERSAMPLING
        self._image = Image.new("RGB", (side, side), (0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill the polygon through the points."""
        self._draw.polygon([_enlarge(p) for p in points], fill=colour)

    def blob(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill the smooth closed shape through the points."""
        self.polygon(smooth(points, closed=True), colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        """Fill an upright ellipse."""
        (x, y), (a, b) = centre, radii
        self._draw.ellipse([_enlarge((x - a, y - b)), _enlarge((x + a, y + b))], fill=colour)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line through the points with round ends and joints."""
        for start, end in pairwise(points):
            self._bar(start, end, width, colour)
        for point in points:
            self.ellipse(point, (width / 2, width / 2), colour)

    def curve(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a smooth line through the points."""
        self.stroke(smooth(points, closed=False), width, colour)

    def finished(self) -> Image.Image:
        """The picture at its final size; whole blocks are averaged, so the background stays exactly black."""
        return self._image.reduce(OVERSAMPLING)

    def _bar(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        length = math.dist(start, end)
        if length == 0:
            return
        dx = (end[1] - start[1]) / length * width / 2
        dy = (start[0] - end[0]) / length * width / 2
        corners = [(start[0] + dx, start[1] + dy), (end[0] + dx, end[1] + dy)]
        corners += [(end[0] - dx, end[1] - dy), (start[0] - dx, start[1] - dy)]
        self.polygon(corners, colour)


def _enlarge(point: Point) -> Point:
    return point[0] * OVERSAMPLING, point[1] * OVERSAMPLING


def smooth(points: Sequence[Point], closed: bool) -> list[Point]:
    """A fine polyline along the Catmull-Rom curve through the points."""
    knots = [points[-1], *points, points[0], points[1]] if closed else [points[0], *points, points[-1]]
    line: list[Point] = []
    for i in range(len(knots) - 3):
        line += [_catmull_rom(knots[i : i + 4], step / CURVE_STEPS) for step in range(CURVE_STEPS)]
    return line if closed else [*line, points[-1]]


def _catmull_rom(knots: Sequence[Point], u: float) -> Point:
    x, y = (_cubic([knot[axis] for knot in knots], u) for axis in (0, 1))
    return x, y


def _cubic(values: Sequence[float], u: float) -> float:
    a, b, c, d = values
    return 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)


def mirrored(points: Sequence[Point]) -> list[Point]:
    """The points reflected about the vertical centre line."""
    return [(SIZE - x, y) for x, y in points]


def arc(centre: Point, radii: Point, start: float, stop: float) -> list[Point]:
    """Points on an ellipse from start to stop degrees; 0 is right, 90 is down."""
    angles = [math.radians(start + (stop - start) * i / CURVE_STEPS) for i in range(CURVE_STEPS + 1)]
    return [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles]


def octagon(inset: float) -> list[Point]:
    """A regular octagon whose sides lie `inset` pixels inside the picture's edge."""
    radius = (SIZE / 2 - inset) / math.cos(math.pi / 8)
    angles = [math.pi / 8 + i * math.pi / 4 for i in range(8)]
    return [(SIZE / 2 + radius * math.cos(a), SIZE / 2 + radius * math.sin(a)) for a in angles]


def draw_stop_sign(canvas: Canvas) -> None:
    """A red octagon with an off-white rim and the word STOP."""
    canvas.polygon(octagon(0), OFF_WHITE)
    canvas.polygon(octagon(24), (204, 22, 32))
    width, top, middle, bottom = 36, 178, 256, 334
    upper = arc((95, 217), (29, 39), -25, -270)
    lower = arc((95, 295), (29, 39), -90, 155)
    canvas.stroke(upper + lower, width, OFF_WHITE)
    canvas.stroke([(160, top), (240, top)], width, OFF_WHITE)
    canvas.stroke([(200, top), (200, bottom)], width, OFF_WHITE)
    round_o = [*arc((306, 216), (32, 38), 180, 360), *arc((306, 296), (32, 38), 0, 180)]
    canvas.stroke([*round_o, round_o[0]], width, OFF_WHITE)
    bowl = arc((418, 219), (30, 41), -90, 90)
    canvas.stroke([(396, bottom), (396, top), *bowl, (396, middle + 4)], width, OFF_WHITE)


def draw_glasses(canvas: Canvas) -> None:
    """A pair of thick eyeglasses seen from the front, about 0.87 of the picture wide."""
    frame: Colour = (236, 226, 196)
    canvas.curve([(214, 236), (256, 214), (298, 236)], 30, frame)
    rim = [(54, 206), (92, 178), (150, 174), (206, 188), (228, 222), (222, 280)]
    rim += [(190, 326), (138, 338), (86, 320), (60, 274)]
    wing = [(36, 174), (60, 174), (100, 158), (70, 240), (46, 224), (36, 204)]
    for side in (list, mirrored):
        canvas.polygon(side(wing), frame)
        loop = smooth(side(rim), closed=True)
        canvas.polygon(loop, (92, 128, 150))
        canvas.stroke([*loop, loop[0]], 34, frame)
    for x in (112, 352):
        canvas.stroke([(x, 262), (x + 42, 216)], 14, (206, 226, 238))


def draw_hat(canvas: Canvas) -> None:
    """A fedora: a light pinched crown, a dark band and a wide brim."""
    _draw_brim(canvas)
    sides = [(112, 326), (120, 240), (140, 140), (172, 86)]
    top = [(214, 66), (256, 96), (298, 66)]
    base = [(330, 358), (256, 368), (182, 358)]
    canvas.blob([*sides, *top, *reversed(mirrored(sides)), *base], (238, 228, 208))
    dent = [(206, 104), (256, 128), (306, 104), (286, 190), (256, 216), (226, 190)]
    canvas.blob(dent, (190, 176, 152))
    _draw_band(canvas)


def _draw_brim(canvas: Canvas) -> None:
    back = [(8, 318), (22, 298), (70, 312), (150, 322), (256, 324)]
    front = [(256, 450), (130, 434), (48, 384)]
    outline = [*back, *reversed(mirrored(back[:-1])), *reversed(mirrored(front[1:])), *front]
    canvas.blob(outline, (166, 142, 110))
    edge = [(16, 330), (56, 380), (134, 424), (256, 440)]
    canvas.curve([*edge, *reversed(mirrored(edge[:-1]))], 14, (206, 184, 150))


def _draw_band(canvas: Canvas) -> None:
    upper = [(114, 264), (180, 298), (256, 308), (332, 298), (398, 264)]
    lower = [(408, 346), (334, 376), (256, 386), (178, 376), (104, 346)]
    outline = [*smooth(upper, closed=False), *smooth(lower, closed=False)]
    canvas.polygon(outline, (122, 68, 62))
    bow = [(116, 276), (166, 300), (156, 330), (164, 364), (108, 338)]
    canvas.polygon(bow, (176, 88, 76))


def draw_shoe(canvas: Canvas) -> None:
    """A laced ankle boot in profile, toe to the left, with a sole and a heel."""
    instep = [(12, 396), (18, 344), (64, 302), (136, 272), (196, 232), (234, 168), (248, 96)]
    collar = [(262, 62), (330, 76), (400, 76), (470, 56)]
    back = [(484, 130), (478, 220), (494, 310), (492, 396)]
    outline = [*smooth(instep, closed=False), *smooth(collar, closed=False), *smooth(back, closed=False)]
    canvas.polygon(outline, (214, 164, 104))
    _draw_boot_panels(canvas)
    _draw_sole(canvas)
    for x, y in ((160, 264), (196, 232), (220, 194), (236, 154)):
        canvas.stroke([(x, y), (x + 66, y + 26)], 18, OFF_WHITE)


def _draw_boot_panels(canvas: Canvas) -> None:
    seam: Colour = (120, 76, 40)
    toe = [(12, 396), (18, 344), (64, 302), (112, 281), (142, 324), (148, 396)]
    canvas.polygon(smooth(toe, closed=False), (238, 206, 156))
    canvas.curve([(112, 284), (142, 324), (148, 396)], 8, seam)
    canvas.curve([(330, 84), (326, 180), (296, 268), (270, 330), (262, 396)], 8, seam)
    counter = [(492, 396), (494, 310), (480, 254), (430, 290), (404, 340), (396, 396)]
    canvas.polygon(smooth(counter, closed=False), (176, 124, 72))
    cuff = [(252, 50), (330, 64), (400, 64), (476, 44), (490, 80)]
    cuff += [(480, 106), (400, 120), (330, 120), (250, 104), (240, 76)]
    canvas.blob(cuff, (246, 224, 184))


def _draw_sole(canvas: Canvas) -> None:
    rubber = [(6, 388), (498, 388), (502, 462), (372, 462), (352, 438), (60, 438), (18, 426)]
    canvas.polygon(rubber, (232, 228, 220))
    canvas.stroke([(10, 396), (496, 396)], 10, (120, 100, 84))


def draw_cat(canvas: Canvas) -> None:
    """A cat's face with pricked ears, green eyes and whiskers."""
    fur: Colour = (200, 138, 80)
    _draw_cat_ears(canvas, fur)
    cheek = [(256, 122), (150, 138), (76, 212), (56, 310), (100, 404), (180, 462), (256, 478)]
    canvas.blob([*cheek, *reversed(mirrored(cheek[1:-1]))], fur)
    for stripe in ([(256, 134), (256, 206)], [(212, 142), (226, 196)], [(300, 142), (286, 196)]):
        canvas.stroke(stripe, 20, (126, 76, 40))
    for stripe in ([(70, 262), (112, 280)], [(64, 318), (106, 322)]):
        canvas.stroke(stripe, 17, (126, 76, 40))
        canvas.stroke(mirrored(stripe), 17, (126, 76, 40))
    for x in (166, 346):
        _draw_cat_eye(canvas, x)
    _draw_cat_muzzle(canvas)


def _draw_cat_ears(canvas: Canvas, fur: Colour) -> None:
    outer = [(58, 290), (66, 34), (72, 22), (84, 22), (176, 92), (246, 140)]
    inner = [(92, 184), (92, 70), (186, 142)]
    for side in (list, mirrored):
        canvas.polygon(side(outer), fur)
        canvas.polygon(side(inner), (238, 168, 158))


def _draw_cat_eye(canvas: Canvas, x: float) -> None:
    canvas.ellipse((x, 272), (55, 51), (48, 28, 18))
    canvas.ellipse((x, 272), (44, 42), (206, 230, 104))
    canvas.ellipse((x, 272), (19, 38), (16, 16, 16))
    canvas.ellipse((x + 12, 256), (9, 9), OFF_WHITE)


def _draw_cat_muzzle(canvas: Canvas) -> None:
    for x in (212, 300):
        canvas.ellipse((x, 386), (66, 54), (244, 230, 208))
    canvas.ellipse((256, 436), (40, 30), (244, 230, 208))
    canvas.blob([(222, 338), (256, 330), (290, 338), (256, 376)], (206, 84, 96))
    smile = [(256, 370), (254, 400), (228, 420), (196, 408)]
    for side in (list, mirrored):
        canvas.curve(side(smile), 11, (70, 40, 30))
        for whisker in ([(178, 378), (8, 346)], [(174, 398), (6, 402)], [(180, 416), (20, 458)]):
            canvas.stroke(side(whisker), 9, OFF_WHITE)


DRAWINGS: dict[str, Callable[[Canvas], None]] = {
    "stop_sign": draw_stop_sign,
    "glasses": draw_glasses,
    "hat": draw_hat,
    "shoe": draw_shoe,
    "cat": draw_cat,
}


def save_picture(name: str) -> Path:
    """Draw one picture and write its PNG file, complete or not at all."""
    canvas = Canvas()
    DRAWINGS[name](canvas)
    path = PICTURES / f"{name}.png"
    temporary = path.with_suffix(".png.part")
    canvas.finished().save(temporary, format="PNG", optimize=True)
    os.replace(temporary, path)
    return path


def main() -> None:
    """Write all five pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name in DRAWINGS:
        print(save_picture(name))


if __name__ == "__main__":
    main()
