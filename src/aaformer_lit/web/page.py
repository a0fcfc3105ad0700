"""The page in Gradio: a picture in, its parts as tiles, a ranking by the tile that was clicked.

Whatever runs the network runs one after another. A visitor's session holds a descriptor and the tiles; pictures lie in a
folder of this process that goes away with it. Nothing is fetched from elsewhere, no fonts and no scripts.
"""

from __future__ import annotations

import html
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.exceptions import ServerFailedToStartError
from starlette.middleware import Middleware

from aaformer_lit.data.images import decode
from aaformer_lit.errors import AAformerError, ConfigError, GalleryError
from aaformer_lit.gallery import ALL
from aaformer_lit.structures import Pixels
from aaformer_lit.web.guard import Guard
from aaformer_lit.web.listening import LOOPBACK_NAMES, is_loopback, names_of
from aaformer_lit.web.viewer import MOST, Query, Tile, Viewer

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

BOX = 300  # height of the one picture beside the tiles
SWEEP, KEPT = 300, 900  # seconds: how often old pictures are deleted, and from which age
HEADING = "# Who looks like this, and by which part?"
CONSENT = (
    "**Before you use a picture of somebody:** re-identification is surveillance technology. Show this page only people who "
    "agreed to it, and only images that you may use; a short distance is a resemblance and no proof of who somebody is. "
    "Pictures stay on the machine that runs this page: their files are deleted within {minutes} minutes, what the page shows "
    "of them leaves its memory within an hour, and all of it goes when the page ends."
)
# Gradio's galleries are squares that scroll, with the captions on the pictures; people are tall, and captions beside them
CSS = """
.gradio-container { max-width: 1320px !important; margin: 0 auto !important; }
.people > label { position: static !important; margin: 0 0 4px; border: 0; box-shadow: none; background: none; }
.people .grid-wrap { height: auto; min-height: 0; max-height: none; overflow: visible; padding-top: 0; }
.people .grid-container {
  grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)); padding: 4px 8px 8px; gap: 8px;
}
.people .gallery-item { max-width: 150px; }
.people .thumbnail-lg { aspect-ratio: auto; height: auto; background: none; border: 0; box-shadow: none; filter: none; }
.people .thumbnail-lg:hover img { outline: 2px solid var(--body-text-color); }
.people .thumbnail-lg img { height: auto; aspect-ratio: 1 / 2; object-fit: contain; border-radius: 3px; }
.people .caption-label {
  position: static; display: block; max-width: 100%; margin: 0; padding: 3px 0 0; border: 0; background: none;
  color: var(--body-text-color) !important; font-size: 12px; line-height: 1.3; white-space: pre-line; text-align: left;
  opacity: 1;
}
#query > label, #chart > label { position: static !important; border: 0; background: none; }
#query, #chart { display: flex; flex-direction: column; }
#query > .image-container, #chart > .image-container { flex: 1; min-height: 0; height: auto; }
#query img, #chart img { width: 100%; height: 100%; object-fit: contain; }
#consent { border-left: 3px solid #cc3311; padding-left: 12px; }
.people .empty, #chart .empty { display: none; }
@media (max-width: 700px) {
  .people .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  h1 { font-size: 1.2rem !important; }
  #look > .column { display: contents; }
  #query { order: 1; height: 190px !important; }
  #ranking { order: 2; }
  #controls { order: 3; }
  #tiles { order: 4; }
  #chart { order: 5; }
  #examples { order: 6; }
}
footer { display: none !important; }
"""


@dataclass(frozen=True)
class Seen:
    """What a session keeps of its picture."""

    query: Query
    tiles: Sequence[Tile]

    def tile(self, group: str) -> Pixels:
        """The map of a token group; the picture where it has none of its own."""
        return next((tile.picture for tile in self.tiles if tile.group == group), self.tiles[0].picture)


def one_sentence(error: Exception) -> str:
    """The first sentence of a message: the remedies behind it are for whoever runs the page."""
    return f"{str(error).split('. ')[0].rstrip('.')}."


def build(viewer: Viewer, k: int = 10) -> gr.Blocks:
    """The page. `k`: answers at first."""
    groups, ranked = viewer.groups(), viewer.gallery is not None
    pictured = 1 + len(viewer.layout.granularities) + len(viewer.parts)
    people = [(viewer.thumbnail(row), viewer.person(row)) for row in viewer.examples]
    names = [(f"camera {camid}" if camid else "unknown", camid) for camid in viewer.cameras]

    def look(upload: dict[str, Any]) -> tuple[Any, ...]:
        return _seen(*viewer.look(decode(Path(upload["path"]).read_bytes(), Path("this file"))))

    def look_at(event: gr.SelectData) -> tuple[Any, ...]:
        query, tiles = viewer.look_at(viewer.examples[int(event.index)])
        return tiles[0].picture, *_seen(query, tiles)

    def look_at_answer(event: gr.SelectData, rows: Sequence[int]) -> tuple[Any, ...]:
        if int(event.index) >= len(rows):  # the server forgets what an idle page has seen
            raise GalleryError("this ranking is forgotten. Choose the picture again.")
        query, tiles = viewer.look_at(rows[int(event.index)])
        return tiles[0].picture, *_seen(query, tiles)

    def choose(event: gr.SelectData, seen: Seen | None) -> str:
        if seen is None:  # the server forgets what an idle page has seen
            raise GalleryError("this picture is forgotten. Choose it again.")
        return seen.tiles[int(event.index)].group

    def show(seen: Seen | None, group: str, cameras: Sequence[str], count: float) -> tuple[Any, ...]:
        if seen is None:
            return None, gr.Gallery([], label="ranking"), []
        chart = gr.Image(seen.tile(group), label=groups[group])
        if not ranked:
            return chart, None, []
        if not cameras:
            return chart, gr.Gallery([], label="ranking: no camera is chosen, so there is nobody to rank"), []
        chosen = None if len(cameras) == len(viewer.cameras) else cameras
        answers = viewer.rank(seen.query, group, chosen, min(max(int(count), 1), MOST))
        judged = bool(answers) and answers[0].decision is not None
        nobody = ": nobody here" if judged and not any(a.decision == "accepted" for a in answers) else ""
        label = f"ranking by {groups[group]}{nobody}"
        ranking = gr.Gallery([(a.picture, a.caption) for a in answers], label=label)
        return chart, ranking, [a.row for a in answers]

    page = gr.Blocks(title="AAformer", analytics_enabled=False, delete_cache=(SWEEP, KEPT))
    with page:
        seen = gr.State(None, time_to_live=3600)
        found = gr.State([], time_to_live=3600)  # rows of the answers
        gr.Markdown(HEADING)
        gr.Markdown(_help(viewer))
        # on a phone the columns dissolve, and the ranking comes right behind the query (CSS)
        with gr.Row(equal_height=False, elem_id="look"):
            with gr.Column(scale=2, min_width=200):
                picture = gr.Image(
                    label="query", sources=["upload", "clipboard"], buttons=[], height=BOX, elem_id="query"
                )
                _refuse_addresses(picture)
                chart = gr.Image(label="chosen", interactive=False, buttons=[], height=BOX, elem_id="chart")
            with gr.Column(scale=10, min_width=400):
                tiles = _pictures("what the parts see", "tiles", pictured)
                ranking = _pictures("ranking", "ranking", 10, visible=ranked)
                with gr.Row(visible=ranked, elem_id="controls"):
                    choices = [(label, group) for group, label in groups.items()]
                    tokens = gr.Radio(choices, value=ALL, label="rank by", scale=6, elem_id="tokens")
                    cameras = gr.CheckboxGroup(
                        names,
                        value=list(viewer.cameras),
                        label="cameras",
                        scale=3,
                        visible=len(names) > 1,
                        elem_id="cameras",
                    )
                    count = gr.Slider(
                        1, MOST, value=k, step=1, label="answers", scale=2, min_width=140, elem_id="count"
                    )
                offered = _pictures("or somebody from the gallery", "examples", len(people), people, visible=ranked)
        gr.Markdown(CONSENT.format(minutes=(SWEEP + KEPT) // 60), elem_id="consent")

        # one after another, and nothing that other programs can call by name
        options: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network", "concurrency_limit": 1}
        controls, shown = [seen, tokens, cameras, count], [chart, ranking, found]
        # as uploaded: decoded under this package's limits, before anything else opens it
        uploaded = picture.upload(_told(look), picture, [seen, tiles], preprocess=False, **options)
        # or the answers to the picture before would stand below one that could not be read
        uploaded.failure(
            lambda: (None, None, None, gr.Gallery([], label="ranking"), []), None, [seen, tiles, *shown], **options
        )
        for changed in (
            uploaded,
            picture.clear(lambda: (None, None), None, [seen, tiles], **options),
            offered.select(_told(look_at), None, [picture, seen, tiles], **options),
            ranking.select(_told(look_at_answer), found, [picture, seen, tiles], **options),
            tiles.select(_told(choose), seen, tokens, **options),
        ):
            changed.success(_told(show), controls, shown, **options)
        for control in (tokens.input, cameras.input, count.release):
            control(_told(show), controls, shown, **options)
    return page


@contextmanager
def serving(
    viewer: Viewer,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_file_mb: int = 10,
    max_uploads: int = 100,
    k: int = 10,
) -> Iterator[str]:
    """The page on the network while the context lasts; gives its address.

    Args:
        host: address to listen on.
        port: of it.
        max_file_mb: size of an upload.
        max_uploads: of all visitors together, within 15 minutes.
        k: answers at first.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if not is_loopback(host):
        log.warning("%s can be reached from other machines: whoever reaches it sees the gallery's people", host)
    with tempfile.TemporaryDirectory(prefix="aaformer-demo-") as folder, _environment(Path(folder)):
        guard = Middleware(
            Guard,
            folder=Path(folder),
            hosts=names_of(host),
            max_bytes=max_file_mb << 20,
            max_uploads=max_uploads,
        )
        page = build(viewer, k).queue(max_size=32)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it asks itself whether it is up
        try:
            _, url, _ = page.launch(
                server_name=f"[{host}]" if ":" in host else host, server_port=port,
                share=False, inbrowser=False, inline=False, quiet=True,
                prevent_thread_lock=True, max_file_size=max_file_mb << 20, ssr_mode=False, mcp_server=False, pwa=False,
                run_history=False, enable_monitoring=False, footer_links=[], num_workers=0, state_session_capacity=100,
                max_threads=8, app_kwargs={"middleware": [guard]}, theme=_theme(), css=CSS,
            )  # fmt: skip
        except (OSError, ServerFailedToStartError, ValueError) as cause:
            raise ConfigError(
                f"the page cannot listen on host={host} port={port}: it is taken, or no address of this machine. Give "
                "another port=."
            ) from cause
        try:
            yield url
        finally:
            page.close(verbose=False)


def _seen(query: Query, tiles: Sequence[Tile]) -> tuple[Seen, list[tuple[Pixels, str]]]:
    return Seen(query, tiles), [(tile.picture, tile.label) for tile in tiles]


def _pictures(
    label: str, name: str, columns: int, shown: Sequence[tuple[Pixels, str]] | None = None, visible: bool = True
) -> gr.Gallery:
    """A row or two of pictures that can be clicked."""
    return gr.Gallery(
        shown, label=label, columns=columns, allow_preview=False, buttons=[], interactive=False, visible=visible,
        height="auto", elem_id=name, elem_classes="people",
    )  # fmt: skip


def _refuse_addresses(picture: gr.Image) -> None:
    """Gradio would fetch the address that a forged upload names."""
    move = picture.async_move_resource_to_block_cache

    async def only_uploads(path: str | Path | None) -> str | None:
        if str(path).lower().startswith(("http:", "https:")):
            raise _refusal("pictures are uploaded, not fetched from an address.")
        moved: str | None = await move(path)
        return moved

    setattr(picture, move.__name__, only_uploads)


def _help(viewer: Viewer) -> str:
    ranked = viewer.gallery is not None
    lines = ["Drop a picture of one person" + (", or take somebody from the gallery." if ranked else ".")]
    if viewer.parts:
        lines.append(
            "The tiles show which patches the network deals to which part, and where in its share each part looks (blue: "
            "little, yellow: most, black: not its patches; stripes: its heads disagree)."
        )
    if ranked:
        lines.append(
            f"Click a tile to rank the gallery ({len(viewer.gallery or ()):,} images) by it alone, an answer to search for it."
        )
    if viewer.calibration is not None:
        lines.append(
            "By all tokens, a bar below each answer says whether its distance is accepted (blue), unsure (orange) or rejected "
            f"(gray); of pairs of different people at most {viewer.calibration.thresholds.accept.bound:.2%} are accepted."
        )
    return " ".join(lines)


def _told(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """With mistakes as a message on the page."""

    @wraps(function)
    def wrapper(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return function(*args, **kwargs)
        except AAformerError as error:
            log.info("refused: %s", error)
            raise _refusal(one_sentence(error)) from error

    return wrapper


def _refusal(message: str) -> gr.Error:
    return gr.Error(html.escape(message), print_exception=False)


def _theme() -> gr.themes.Base:
    # fonts by name alone: the themes' own would be files or come from elsewhere
    return gr.themes.Default(
        primary_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """What Gradio reads from the environment, which else could open a tunnel or more folders: our folder and nothing else."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_") or name == "NO_PROXY"}
    proxied = os.environ.get("NO_PROXY", os.environ.get("no_proxy"))
    for name in before:
        del os.environ[name]
    ours = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        # Gradio asks its own server whether it is up
        "NO_PROXY": ",".join(filter(None, [proxied, *LOOPBACK_NAMES[:2]])),
    }
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(before)
