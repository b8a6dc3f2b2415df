"""A flame graph, as an SVG that needs nothing else: who called whom, and how much of the time.

Each box is a function; its width is its share of all samples, and what it called is above it. A
browser shows a box's name and share when the pointer rests on it.
"""

import zlib
from html import escape

WIDTH, ROW, MARGIN, TOP = 1200, 17, 10, 44
CHARACTER = 6.6
# Narrower boxes are left out: there is nothing to see of them.
NARROWEST = 0.3


class Box:
    """A function under those that called it."""

    def __init__(self, name):
        self.name = name
        self.weight = 0
        self.children = {}

    def add(self, names, weight):
        box = self
        box.weight += weight
        for name in names:
            box = box.children.setdefault(name, Box(name))
            box.weight += weight


def tree(folded):
    """Of stacks, outermost first, and their weights."""
    root = Box("all")
    for names, weight in folded.items():
        root.add(names, weight)
    return root


def svg(folded, title):
    root = tree(folded)
    boxes = []
    deepest = draw(root, root.weight or 1, MARGIN, 0, boxes)
    height = TOP + (deepest + 1) * ROW + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
        "<style>rect{stroke:#fff;stroke-width:.5}g:hover rect{stroke:#000}"
        "text{pointer-events:none}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{WIDTH / 2:.0f}" y="20" text-anchor="middle" font-size="14">'
        f"{escape(title)}</text>",
        f'<text x="{WIDTH / 2:.0f}" y="36" text-anchor="middle" fill="#666">orange: the kernel; '
        "green: inlined; rest on a box for its name and share</text>",
    ]
    lines += [drawn(*box, root.weight or 1, height) for box in boxes]
    return "\n".join([*lines, "</svg>", ""])


def draw(box, whole, left, depth, boxes):
    """Lists a box and all above it with where they are; gives the depth of the highest."""
    width = box.weight / whole * (WIDTH - 2 * MARGIN)
    if width < NARROWEST:
        return depth - 1
    boxes.append((box, left, width, depth))
    deepest = depth
    for name in sorted(box.children):
        child = box.children[name]
        deepest = max(deepest, draw(child, whole, left, depth + 1, boxes))
        left += child.weight / whole * (WIDTH - 2 * MARGIN)
    return deepest


def drawn(box, left, width, depth, whole, height):
    top = height - MARGIN - (depth + 1) * ROW
    share = f"{box.weight / whole:.2%}"
    shown = fitting(box.name, width)
    text = (f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(shown)}</text>' if shown else "")
    return (f"<g><title>{escape(box.name)}: {share}</title>"
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" rx="1" '
            f'fill="{color(box.name)}"/>{text}</g>')


def fitting(name, width):
    """As much of a name as fits into its box; the end of a path says more than its beginning."""
    room = int((width - 6) / CHARACTER)
    if room < 3:
        return ""
    if len(name) > room and "::" in name and "<" not in name:
        name = "::".join(name.split("::")[-2:])
    return name if len(name) <= room else name[:room - 2] + ".."


def color(name):
    """The same for the same name; of a hue by what it is."""
    shade = zlib.crc32(name.encode()) % 30
    hue = 30 if name.endswith("[k]") else 110 if name.endswith(")") and " (" in name else 205
    return f"hsl({hue},{60 + shade}%,{66 + shade // 3}%)"
