"""Inside the networks of a run: features in a plane, attention on pictures, spectra, answers by class."""

import functools

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from poisonlab.figures.pixels import SIDE, as_rgb
from poisonlab.figures.png import enlarged
from poisonlab.figures.style import CATEGORICAL, CLEAN, CONTROL, POISONED, PURIFIED, SEQUENTIAL, layout
from poisonlab.lens.attention import Attention
from poisonlab.lens.features import Planes
from poisonlab.lens.per_class import PerClass
from poisonlab.lens.pictures import NO_LABEL, Pictures
from poisonlab.lens.spectra import Spectra, frequencies

MODELS = {"control": CONTROL, "undefended": POISONED, "defended": PURIFIED}
GROUPS = (
    (CLEAN, "circle", 5, 0.6),
    (POISONED, "diamond", 7, 0.75),
    (CATEGORICAL[4], "triangle-up", 7, 0.75),
)
ROOM = 0.05  # around the points of a plane
ATTENDED = 0.6  # how much of a picture's color is its map's
FRAME = (255, 255, 255), (0, 0, 0)  # around the trigger: white beside black is seen on any color
WRITTEN = 10  # classes up to which the cells of a matrix hold their numbers


# -- features ------------------------------------------------------------------------------------------


def feature_planes(planes: Planes, pictures: Pictures) -> go.Figure:
    """A plane for each network, side by side; each mark holds the position of its picture."""
    models = list(planes.places)
    figure = make_subplots(1, len(models), subplot_titles=models, horizontal_spacing=0.09)
    for column, model in enumerate(models, 1):
        for number, group in enumerate(pictures.groups):
            rows = pictures.rows(group)
            if len(rows):
                figure.add_trace(_marks(planes.places[model], pictures, number, rows, column == 1), 1, column)
        _axes(figure, planes, model, column)
    layout(figure, "", "", 440)
    for column, model in enumerate(models, 1):
        figure.update_xaxes(title_text=_axis_title(planes, model, 0), row=1, col=column)
        figure.update_yaxes(title_text=_axis_title(planes, model, 1), title_standoff=12, row=1, col=column)
    figure.update_layout(legend_y=1.12, margin_t=80, dragmode="select", clickmode="event+select")
    return figure


def _marks(places: Tensor, pictures: Pictures, number: int, rows: Tensor, named: bool) -> go.Scatter:
    color, symbol, size, opacity = GROUPS[number]
    group = pictures.groups[number]
    return go.Scatter(
        x=places[rows, 0].numpy(),
        y=places[rows, 1].numpy(),
        mode="markers",
        name=group,
        legendgroup=group,
        showlegend=named,
        customdata=rows.numpy(),
        text=[picture_words(pictures, row) for row in rows.tolist()],
        hovertemplate="%{text}<extra></extra>",
        marker={"color": color, "symbol": symbol, "size": size, "opacity": opacity},
        unselected={"marker": {"opacity": 0.12}},
    )


def picture_words(pictures: Pictures, row: int) -> str:
    """What a picture is, and what the network was told of it."""
    true = pictures.classes[int(pictures.true[row])]
    given = int(pictures.given[row])
    words = f"{pictures.groups[int(pictures.group[row])]}, a {true}"
    if given == NO_LABEL or given == int(pictures.true[row]):
        return words
    return f"{words} labeled {pictures.classes[given]}"


def _axes(figure: go.Figure, planes: Planes, model: str, column: int) -> None:
    """Ranges of the axes: the same for models that share them."""
    sharing = planes.together if model in planes.together else (model,)
    together = torch.cat([planes.places[name] for name in sharing])
    for axis, update in ((0, figure.update_xaxes), (1, figure.update_yaxes)):
        low = float(together[:, axis].min())
        high = float(together[:, axis].max())
        room = ROOM * (high - low) or 1.0
        update(range=[low - room, high + room], row=1, col=column, showticklabels=planes.method == "PCA")


def _axis_title(planes: Planes, model: str, axis: int) -> str:
    explained = planes.explained.get(model)
    if explained is None:
        return ""
    return f"component {axis + 1} ({explained[axis]:.0%})"


# -- attention -----------------------------------------------------------------------------------------


@functools.cache
def _colors() -> np.ndarray:
    """256 colors from nothing to most, uint8 ``(256, 3)``."""
    scale = sample_colorscale(SEQUENTIAL, 256, colortype="tuple")
    return np.round(255 * np.array(scale)).astype(np.uint8)


def attended(image: Tensor, attention: Tensor, support: Tensor, side: int = SIDE) -> np.ndarray:
    """A picture in gray under its map in color, the place of the trigger framed; uint8 ``(H, W, 3)``.

    Args:
        image: uint8 ``(c, h, w)``. attention: float ``(h, w)``, not negative; its largest value has the last color.
        support: bool ``(h, w)``; no frame where it is everywhere or nowhere.
    """
    shade = as_rgb(image).mean(2, keepdims=True)
    most = float(attention.max())
    level = (attention / most if most > 0 else attention).numpy()
    colored = _colors()[np.round(255 * level).astype(np.uint8)]
    mixed = ((1 - ATTENDED) * shade + ATTENDED * colored).round().astype(np.uint8)
    large = enlarged(mixed, side).copy()
    return _framed(large, support) if support.any() and not support.all() else large


def _framed(picture: np.ndarray, support: Tensor) -> np.ndarray:
    """Two lines, white outside and black inside, around the box of ``support``."""
    factor = picture.shape[0] // support.shape[0]
    places = support.nonzero()
    top, left = (places.amin(0) * factor).tolist()
    bottom, right = ((places.amax(0) + 1) * factor - 1).tolist()
    for inwards, color in enumerate(FRAME):
        picture[[top + inwards, bottom - inwards], left + inwards : right + 1 - inwards] = color
        picture[top + inwards : bottom + 1 - inwards, [left + inwards, right - inwards]] = color
    return picture


def trigger_shares(found: Attention) -> go.Figure:
    """Mean share of each map in the trigger, by network; the bars' ends are quartiles of the pictures."""
    figure = go.Figure()
    names = list(found.names)
    for model, shares in found.shares.items():
        known = [row[row.isfinite()].double() for row in shares]
        means = [float(row.mean()) if len(row) else float("nan") for row in known]
        low, high = (
            [float(row.quantile(q)) if len(row) else float("nan") for row in known] for q in (0.25, 0.75)
        )
        figure.add_bar(
            x=names,
            y=means,
            name=model,
            marker_color=MODELS[model],
            customdata=np.stack([low, high], 1),
            hovertemplate=f"{model}, %{{x}}: %{{y:.1%}}<br>half of the pictures between %{{customdata[0]:.1%}} and "
            "%{customdata[1]:.1%}<extra></extra>",
            texttemplate="%{y:.0%}",
            textposition="outside",
            cliponaxis=False,
        )
    figure.add_scatter(
        x=names,
        y=[found.even] * len(names),
        mode="lines",
        name=f"a map that is the same everywhere: {found.even:.1%}",
        line={"color": CATEGORICAL[5], "dash": "dot"},
        hoverinfo="skip",
    )
    layout(figure, "", "share of the map in the trigger", 340, barmode="group")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


# -- frequencies ---------------------------------------------------------------------------------------


def spectrum_maps(maps: dict[str, Tensor]) -> go.Figure:
    """Spectra side by side in the same colors: log10 of amplitudes, frequency 0 in the middle."""
    lowest = min(float(value.min()) for value in maps.values())
    highest = max(float(value.max()) for value in maps.values())
    figure = _heat(maps)
    colorbar = {"title": "amplitude", "thickness": 14, "tickprefix": "10<sup>", "ticksuffix": "</sup>"}
    figure.update_layout(
        coloraxis={"colorscale": SEQUENTIAL, "cmin": lowest, "cmax": highest, "colorbar": colorbar}
    )
    return figure


def spectrum_changes(maps: dict[str, Tensor]) -> go.Figure:
    """What changed from the clean spectrum, as factors: red is more of a frequency, blue less."""
    clean = maps["clean"]
    changes = {f"{name} against clean": value - clean for name, value in maps.items() if name != "clean"}
    most = max(float(value.abs().max()) for value in changes.values()) or 1.0
    figure = _heat(changes)
    ticks = [-most, 0.0, most]
    colorbar = {
        "title": "factor",
        "thickness": 14,
        "tickvals": ticks,
        "ticktext": [_factor(10**tick) for tick in ticks],
    }
    figure.update_layout(
        coloraxis={
            "colorscale": "RdBu",
            "reversescale": True,
            "cmin": -most,
            "cmax": most,
            "colorbar": colorbar,
        }
    )
    return figure


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _heat(maps: dict[str, Tensor]) -> go.Figure:
    """Maps of frequencies side by side, on one color axis."""
    figure = make_subplots(1, len(maps), subplot_titles=list(maps), horizontal_spacing=0.06)
    for column, value in enumerate(maps.values(), 1):
        height, width = value.shape
        figure.add_heatmap(
            z=value.numpy(),
            x=frequencies(width),
            y=frequencies(height),
            coloraxis="coloraxis",
            hovertemplate="%{x} waves across, %{y} down<br>%{z:.2f}<extra></extra>",
            row=1,
            col=column,
        )
        figure.update_yaxes(scaleanchor=f"x{column}" if column > 1 else "x", row=1, col=column)
    layout(figure, "", "", 330)
    figure.update_xaxes(title_text="waves across", showgrid=False, constrain="domain")
    figure.update_yaxes(showgrid=False, constrain="domain")
    figure.update_yaxes(title_text="waves down", row=1, col=1)
    return figure


def spectra_of(found: Spectra, single: Tensor | None = None) -> dict[str, Tensor]:
    """The maps to draw: the means, or of one image.

    Args:
        single: by kind in the order of ``found.images``, ``(kinds, h, w)``.
    """
    if single is None:
        return found.mean
    return dict(zip(found.images, single, strict=True))


# -- classes -------------------------------------------------------------------------------------------


def class_rates(found: PerClass, triggered: bool) -> go.Figure:
    """Accuracy by class, or the attack's success by true class, of each network."""
    figure = go.Figure()
    counts = found.triggered if triggered else found.confusion
    for model in counts:
        rates = found.asr(model) if triggered else found.accuracy(model)
        images = counts[model].sum(1)
        figure.add_bar(
            x=list(found.classes),
            y=rates.numpy(),
            name=model,
            marker_color=MODELS[model],
            customdata=images.numpy(),
            hovertemplate=f"{model}, %{{x}}: %{{y:.1%}} of %{{customdata}} images<extra></extra>",
        )
    layout(figure, "true class", "ASR (lower is better)" if triggered else "accuracy", 320, barmode="group")
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.03])
    return figure


def confusion(found: PerClass, model: str, triggered: bool) -> go.Figure:
    """Shares of each true class by the answer of a network; classes without images stay empty."""
    counts = (found.triggered if triggered else found.confusion)[model].double()
    whole = counts.sum(1, keepdim=True)
    shares = (counts / whole).where(whole > 0, torch.nan).numpy()
    written = len(found.classes) <= WRITTEN
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(found.classes),
            y=list(found.classes),
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            showscale=not written,
            colorbar={"tickformat": ".0%", "thickness": 14},
            texttemplate="%{z:.0%}" if written else None,
            customdata=counts.numpy(),
            hovertemplate="%{y} read as %{x}: %{z:.1%}, %{customdata} images<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    layout(figure, "answer", "true class", 440)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    return figure
