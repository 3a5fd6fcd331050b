"""Decode the images of a file that scripts/compress.py wrote, the same to the last bit.

Examples:
    python scripts/decompress.py stream=shirts.flow out=shirts_again
    python scripts/decompress.py ckpt=PATH stream=FILE
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from flows.coding import ImageCodec, read_stream
from flows.training import call, command_line, load_flow, save_png
from scripts.files.decoded_name import decoded_name
from scripts.files.new_folder import check_new_folder, new_folder


@command_line("../conf", "decompress")
def main(cfg: DictConfig) -> None:
    """Decode the images of the file that the config names."""
    call(decompress, cfg)


def decompress(*, ckpt: str, stream: str, out: str) -> None:
    """Write one PNG file per image into `out`."""
    check_new_folder(out)
    flow = load_flow(ckpt)
    coded, names = read_stream(stream, flow)
    files = [decoded_name(name) for name in names or (f"{number:05d}" for number in range(coded.num_images))]
    codec = ImageCodec(flow)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("images", total=coded.num_images)
        images = codec.decode(coded, lambda count: progress.advance(task, count))
    folder = new_folder(out)
    for image, file in zip(images, files, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        save_png(image, folder / file)
    print(f"{folder}: {len(images)} images")


if __name__ == "__main__":
    main()
