"""`headstart views`: draws a picture of what views (mirrored, turned, cropped, brighter ...) make of a photo."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli import arguments

if TYPE_CHECKING:
    from PIL import Image

HELP = "a picture of what views make of a photo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Draw a photo's views, which more can be learnt from: a row each."
    arguments.add_cache(parser)
    parser.add_argument("photo", metavar="PHOTO", help="any photo")
    parser.add_argument(
        "-o", dest="picture", metavar="FILE", type=Path, required=True, help="the picture to write, .png or .jpg"
    )
    parser.add_argument("--views", default="", help="which ones, as in mirrored,rotation=15 (default: all of them)")
    parser.add_argument("--backbone", help="whose square is drawn (default: efficientnet-lite0)")
    parser.add_argument("--seed", type=int, help="another chance for what is random (default: 0)")
    arguments.add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Draw what views make of a photo."""
    from headstart.backbones.find import BackboneSpec, find_backbone
    from headstart.data.views import parse_views, views_grid
    from headstart.files import check_output, write_output

    check_output(options.picture, overwrite=options.overwrite)
    spec = BackboneSpec(options.backbone) if "backbone" in options else BackboneSpec()
    preprocess = find_backbone(spec, arguments.cache_dir_of(options)).preprocess
    views = parse_views(options.views) if options.views else ()
    grid = views_grid(options.photo, preprocess, views, **arguments.options_for(views_grid, options))
    write_output(options.picture, _encode(grid, options.picture))
    print(f"{options.picture}: a row for each view. Learn from some with:\n  headstart train PHOTOS --views mirrored,...")
    return 0


def _encode(picture: Image.Image, path: Path) -> bytes:
    """A picture as a file of the kind that its name asks for."""
    import io

    from headstart.errors import OutputError

    content, kind = io.BytesIO(), path.suffix.lstrip(".").lower() or "png"
    try:
        picture.save(content, format={"jpg": "jpeg"}.get(kind, kind))
    except KeyError:
        raise OutputError(f"{path}: what kind of picture is that? name it .png or .jpg") from None
    return content.getvalue()
