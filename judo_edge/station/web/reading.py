"""What can be looked at: status, results, recipes, references and their photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from judo_edge.errors import InputError
from judo_edge.station.results import ResultQuery
from judo_edge.station.web.desk import Caller, Desk, desk_of, operator, program, viewer
from judo_edge.station.web.pictures import SIZES

router = APIRouter()
_KEEP = {"cache-control": "private, max-age=604800, immutable"}
"""A result's photo never changes."""
ReferenceId = Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Viewer = Annotated[Caller, Depends(viewer)]
Operator = Annotated[Caller, Depends(operator)]
Program = Annotated[Caller, Depends(program)]


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Tell anybody whether the station is there, and nothing else."""
    is_away = desk_of(request).watch.is_away
    return PlainTextResponse("away" if is_away else "ok", 503 if is_away else 200)


@router.get("/api/status")
async def status(request: Request, caller: Program) -> Any:
    """Return state, counters, processes and conditions."""
    return _record(await desk_of(request).station.status())


@router.get("/api/results")
async def results(request: Request, caller: Program) -> Any:
    """Return stored results; the query's keys are those of ResultQuery."""
    try:
        query = ResultQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"query: {'.'.join(map(str, fault['loc']))}", fault["msg"]) from error
    return [_record(one) for one in await desk_of(request).station.results(query)]


@router.get("/api/results/{result_id}")
async def result(request: Request, result_id: str, caller: Program) -> Any:
    """Return one result."""
    found = await desk_of(request).station.result(result_id)
    if found is None:
        raise HTTPException(404, "there is no such result")
    return _record(found)


@router.get("/api/results/{result_id}/{kind}")
async def picture(
    request: Request, result_id: str, kind: Literal["photo", "reference"], caller: Viewer, size: int = 640
) -> Response:
    """Return a result's photo, or its reference's, as JPEG."""
    desk = desk_of(request)
    return await _jpeg(desk, await desk.station.archive_file(result_id, kind), size)


@router.get("/api/recipes")
async def recipes(request: Request, caller: Operator) -> Any:
    """Return every version of every recipe, newest first."""
    return [_record(one) for one in await desk_of(request).station.recipes()]


@router.get("/api/references")
async def references(request: Request, part: str, caller: Operator) -> Any:
    """Return the references of a part."""
    return [_record(one) for one in await desk_of(request).station.references(part)]


@router.get("/api/reference-photo")
async def reference_photo(
    request: Request, part: str, reference_id: ReferenceId, caller: Viewer, size: int = 640
) -> Response:
    """Return a reference's photo as JPEG."""
    desk = desk_of(request)
    return await _jpeg(desk, await desk.station.reference_file(part, reference_id), size)


@router.get("/api/live/{camera}")
async def live(request: Request, camera: str, caller: Viewer) -> Response:
    """Return the camera's newest photo as it is."""
    data = await desk_of(request).station.live(camera)
    if not data:
        raise HTTPException(404, "the camera has no photo yet")
    return Response(data, media_type="image/jpeg")


async def _jpeg(desk: Desk, path: Path | None, size: int) -> Response:
    if size not in SIZES:
        raise HTTPException(400, f"size is none of {', '.join(map(str, SIZES))}")
    data = await desk.pictures.jpeg(path, size) if path is not None else None
    if data is None:
        raise HTTPException(404, "no photo is kept")
    return Response(data, media_type="image/jpeg", headers=_KEEP)


def _record(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")
