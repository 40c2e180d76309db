"""The Dash application: what of the page is read anew when something changes.

Address → view → panels. Choices write the address only, so that a link, the browser's back
button and a click all take the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from dashboard import figures, page, panels, queries, wording
from dashboard.view import EVERYONE, Choices, View, chosen_version, resolved
from dashboard.warehouse import Problem, Warehouse, WarehouseError

_NO_MODELS = Problem(
    "There is no model yet",
    "Log predictions with PredictionLogger, run driftline load, then driftline dbt build. To see "
    "the page with data first: driftline demo flights.",
)
_CHOICES = ("model", "version", "segment", "value", "by", "feature", "window")


def create_app(
    warehouse: Warehouse,
    now: Callable[[], datetime],
    *,
    live_seconds: float = 5.0,
    check_seconds: float = 15.0,
) -> Dash:
    """Give the application over `warehouse`; it connects on the first request, not here.

    `now` gives the time in UTC. Pages ask every `live_seconds` for what landed, and every
    `check_seconds` whether there is a new run, or whether a warehouse that was away is back.
    """
    app = Dash(
        __name__,
        title="driftline",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        index_string=page.INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = page.layout(live_seconds, check_seconds)
    _register_state(app, warehouse, now, check_seconds)
    _register_panels(app, warehouse, now, live_seconds)

    def harden(response: Any) -> Any:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.server.after_request(harden)
    return app


def _register_state(
    app: Dash, warehouse: Warehouse, now: Callable[[], datetime], check_seconds: float
) -> None:
    @app.callback(Output("stamp", "data"), Input("check", "n_intervals"), State("stamp", "data"))
    def check(_: int | None, known: dict[str, Any] | None) -> Any:
        found = _stamp(warehouse, check_seconds)
        return no_update if found == known else found

    @app.callback(
        Output("problem", "children"),
        Output("page", "className"),
        Output("as-of", "children"),
        Input("stamp", "data"),
        Input("view", "data"),
    )
    def say(stamp: dict[str, Any] | None, view: dict[str, str] | None) -> Any:
        if stamp is None:
            raise PreventUpdate
        if stamp["problem"] is None:
            run = datetime.fromtimestamp(stamp["run_version"] / 1e6, UTC)
            said = f"marts of {wording.moment(run)} · all times are UTC"
            return None, "" if view else "is-empty", said
        problem = panels.problem(Problem(**stamp["problem"]))
        return problem, "is-stale" if view else "is-empty", "trying again by itself"

    @app.callback(
        Output("address", "search"),
        Output("view", "data"),
        Output("cell", "data"),
        *(Output(f"choose-{name}", "options") for name in _CHOICES if name != "by"),
        *(Output(f"choose-{name}", "value") for name in _CHOICES),
        Output("choose-days", "start_date"),
        Output("choose-days", "end_date"),
        Input("address", "search"),
        Input("stamp", "data"),
        *(Input(f"choose-{name}", "value") for name in _CHOICES),
        Input("choose-days", "start_date"),
        Input("choose-days", "end_date"),
        Input("heat-map", "clickData"),
        State("view", "data"),
        State("cell", "data"),
    )
    def choose(search: str | None, stamp: dict[str, Any] | None, *given: Any) -> Any:
        if search is None or stamp is None or stamp["problem"] is not None:
            raise PreventUpdate
        values = dict(zip((*_CHOICES, "start", "end", "click", "view", "cell"), given, strict=True))
        choices = _changed(Choices.from_search(search), str(ctx.triggered_id or ""), values)
        try:
            return _shown(warehouse, now(), choices, search, values)
        except WarehouseError as error:
            # The next check says what is wrong; this is between two of them.
            raise PreventUpdate from error


def _stamp(warehouse: Warehouse, check_seconds: float) -> dict[str, Any]:
    """Say which runs the marts are of, or what the problem is."""
    problem: Problem | None = None
    row: dict[str, Any] = {"stamp": "", "run_version": 0}
    try:
        # Half, so that a page alone always gets a fresh answer.
        row = dict(warehouse.remembered_rows(queries.STAMP, check_seconds / 2)[0])
        if not row["model_count"]:
            problem = _NO_MODELS
    except WarehouseError as error:
        problem = error.problem
    return {
        "stamp": row["stamp"],
        "run_version": row["run_version"],
        "problem": problem.to_dict() if problem else None,
    }


def _changed(choices: Choices, triggered: str, values: dict[str, Any]) -> Choices:
    """Give the choices after the one that was just made."""
    name = triggered.removeprefix("choose-")
    value = str(values.get(name) or "")
    if triggered == "choose-model":
        # What another model's version, segments and features are called is nothing to this one.
        return Choices(model=value, by=choices.by, start=choices.start, end=choices.end)
    if triggered == "choose-segment":
        return replace(choices, segment=value, value="")
    if triggered == "choose-by":
        return replace(choices, by=value, window="")
    if triggered == "choose-days":
        return replace(
            choices,
            start=str(values["start"] or "")[:10],
            end=str(values["end"] or "")[:10],
            window="",
        )
    if triggered == "heat-map" and values["click"]:
        point = values["click"]["points"][0]
        return replace(choices, feature=str(point["y"]), window=str(point["x"])[:10])
    if triggered.startswith("choose-") and name in _CHOICES:
        return replace(choices, **{name: value})
    return choices


def _shown(
    warehouse: Warehouse, now: datetime, choices: Choices, search: str, values: dict[str, Any]
) -> tuple[Any, ...]:
    """Give the outputs of `choose`: address, view, cell, and every choice with its options."""
    spans = queries.model_spans(warehouse)
    span = chosen_version(choices, spans)
    if span is None:
        raise PreventUpdate
    segments = queries.segments(warehouse, span)
    view = resolved(choices, span, segments, now)
    names = queries.feature_names(warehouse, view)
    cell = queries.worst_cell(warehouse, view, choices.feature, choices.window, now)
    kept_cell = None if cell is None else {"feature": cell[0], "window": cell[1].isoformat()}
    kept_view = view.to_dict()
    models = dict.fromkeys(one.model_name for one in spans)
    versions = [one for one in spans if one.model_name == span.model_name]
    keys = dict.fromkeys([EVERYONE, *(key for key, _ in segments)])
    segment_values = [value for key, value in segments if key == view.segment_key] or [EVERYONE]
    options = (
        [_option(name) for name in models],
        [
            _option(one.model_version, one.model_version + (" (active)" if one.is_active else ""))
            for one in versions
        ],
        [_option(key, "everyone" if key == EVERYONE else key) for key in keys],
        [_option(value, "everyone" if value == EVERYONE else value) for value in segment_values],
        [_option(name, wording.feature(name)) for name in names],
        [
            _option(start.isoformat(), wording.window(start, view.granularity))
            for start in reversed(view.window_starts())
        ],
    )
    chosen = (
        view.model_name,
        view.model_version,
        view.segment_key,
        view.segment_value,
        view.granularity.value,
        cell[0] if cell else None,
        cell[1].isoformat() if cell else None,
    )
    address = choices.to_search()
    return (
        no_update if address == Choices.from_search(search).to_search() else address,
        no_update if kept_view == values["view"] else kept_view,
        no_update if kept_cell == values["cell"] else kept_cell,
        *options,
        *chosen,
        view.start.isoformat(),
        view.end.isoformat(),
    )


def _option(value: str, label: str = "") -> dict[str, str]:
    return {"value": value, "label": label or value}


def _register_panels(
    app: Dash, warehouse: Warehouse, now: Callable[[], datetime], live_seconds: float
) -> None:
    def panel(*outputs: Output, inputs: tuple[Input, ...] = ()) -> Callable[[Any], Any]:
        """Register a reader of a view: run when the view or the marts change."""

        def register(read: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(read)
            def guarded(
                stamp: dict[str, Any] | None, kept: dict[str, str] | None, *more: Any
            ) -> Any:
                if kept is None or stamp is None or stamp["problem"] is not None:
                    raise PreventUpdate
                try:
                    return read(View.from_dict(kept), *more)
                except WarehouseError as error:
                    note = panels.problem(error.problem)
                    return note if len(outputs) == 1 else (note, *[no_update] * (len(outputs) - 1))

            return app.callback(  # type: ignore[no-any-return]
                *outputs, Input("stamp", "data"), Input("view", "data"), *inputs
            )(guarded)

        return register

    @panel(Output("cards", "children"))
    def cards(view: View) -> Any:
        return panels.cards(queries.health(warehouse, now()), view.model_name, now())

    @panel(Output("breaches", "children"))
    def breaches(view: View) -> Any:
        return panels.breaches(queries.breaches(warehouse, view.model_name))

    @panel(
        Output("drift-message", "children"),
        Output("drift-note", "children"),
        Output("heat-map", "figure"),
        Output("heat-map-frame", "style"),
        inputs=(Input("cell", "data"),),
    )
    def drift(view: View, kept_cell: dict[str, str] | None) -> Any:
        cells = queries.drift_cells(warehouse, view)
        if not cells:
            note = panels.message(
                "Nothing was compared",
                "There are no predictions in this segment and time range.",
            )
            return note, "", no_update, {"display": "none"}
        figure = figures.drift_heat_map(cells, view, _cell_of(kept_cell))
        style = {"height": f"{figure.layout.height}px"}
        return None, panels.drift_summary(cells, view), figure, style

    @panel(Output("detail", "children"), inputs=(Input("cell", "data"),))
    def detail(view: View, kept_cell: dict[str, str] | None) -> Any:
        cell = _cell_of(kept_cell)
        found = queries.drift_detail(warehouse, view, *cell) if cell else None
        return panels.detail(found, view)

    @panel(Output("performance", "children"))
    def performance(view: View) -> Any:
        return panels.performance(queries.performance(warehouse, view), view)

    @panel(Output("quality", "children"))
    def quality(view: View) -> Any:
        return panels.quality(queries.quality(warehouse, view), view)

    @panel(Output("service", "children"))
    def service(view: View) -> Any:
        return panels.service(queries.service(warehouse, view), view)

    @panel(
        Output("live-tiles", "children"),
        Output("live-throughput", "figure"),
        Output("live-latency", "figure"),
        Output("live-charts", "style"),
        inputs=(Input("live-timer", "n_intervals"),),
    )
    def live(view: View, _: int | None) -> Any:
        found = warehouse.remembered_rows(queries.LIVE, live_seconds)
        rows = queries.live_minutes(found, view)
        if not rows:
            return panels.live_tiles(rows, now()), no_update, no_update, {"display": "none"}
        return (
            panels.live_tiles(rows, now()),
            figures.throughput(rows, None),
            figures.latencies(rows, None),
            {},
        )


def _cell_of(kept: dict[str, str] | None) -> tuple[str, date] | None:
    return None if kept is None else (kept["feature"], date.fromisoformat(kept["window"]))
