# SPDX-License-Identifier: Apache-2.0
"""A line through points, as SVG that any browser shows."""

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 30, 45


def round_step(most, steps):
    """A step of 1, 2 or 5 times a power of ten that divides so far in about
    so many."""
    step = 1.0
    while step * steps * 10 <= most:
        step *= 10
    for factor in (1, 2, 5, 10):
        if step * factor * steps >= most:
            return step * factor
    return step * 10


def text(x, y, words, anchor="middle"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}'
            "</text>")


def line(x1, y1, x2, y2, color):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
            f' stroke="{color}"/>')


def axes(x_most, y_most, at):
    """Grid and numbers; `at` places a point of the data."""
    parts = []
    x_step, y_step = round_step(x_most, 5), round_step(y_most, 5)
    value = 0.0
    while value <= y_most:
        x, y = at(0, value)
        parts += [line(x, y, WIDTH - RIGHT, y, "#ddd"),
                  text(x - 6, y + 4, f"{value:,.0f}", "end")]
        value += y_step
    value = 0.0
    while value <= x_most:
        x, y = at(value, 0)
        parts += [line(x, y, x, y + 4, "#888"), text(x, y + 18, f"{value:,.0f}")]
        value += x_step
    return parts


def svg(points, title, x_label):
    """`points`: (x, y) from left to right; both axes begin at 0."""
    x_most, y_most = points[-1][0], 1.1 * max(y for _, y in points)

    def at(x, y):
        return (LEFT + x / x_most * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y / y_most * (HEIGHT - TOP - BOTTOM))

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in points))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(WIDTH / 2, 18, title),
        text(WIDTH / 2, HEIGHT - 8, x_label),
        *axes(x_most, y_most, at),
        f'<polyline points="{path}" fill="none" stroke="#06c" stroke-width="2"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
