"""``python -m models NAME``: a network's layers, its totals, and how faithful it is to its paper."""

import argparse
import ast
import sys
from textwrap import fill

from models import describe, fidelity_rows, names


def _knob(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KNOB=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def main() -> None:
    """Print the table of one network, or the names of all."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("name", nargs="?", help="a network; without it, the names are listed")
    parser.add_argument("knobs", nargs="*", type=_knob, metavar="KNOB=VALUE", help="e.g. groups=1")
    parser.add_argument("--image-size", type=int, help="side of the image in pixels")
    arguments = parser.parse_intermixed_args()
    if arguments.name is None:
        print("\n".join(names()))
        return
    try:
        table = describe(arguments.name, arguments.image_size, **dict(arguments.knobs))
    except (ValueError, TypeError) as error:
        sys.exit(str(error))
    print(table)
    for row in fidelity_rows(arguments.name):
        checked = row.checked and f"checked: {row.checked}"
        parts = (f"{row.element} ({row.source}): {row.status}", row.published, row.note, checked)
        print(fill("; ".join(filter(None, parts)), 100, subsequent_indent="    "))


if __name__ == "__main__":
    main()
