"""What can be done: triggers, reviews and questions by operators; recipes, references and states by engineers."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from judo_edge.config import Frozen
from judo_edge.errors import JudoEdgeError
from judo_edge.station.results import JobRequest
from judo_edge.station.web.desk import Caller, Desk, desk_of, engineer, operator, program, upload_folder
from judo_edge.station.web.pictures import check_photo

router = APIRouter()
SINK = "http"
"""Name of the sink that programs acknowledge for."""
CAUSE = 0
_log = logging.getLogger(__name__)
Operator = Annotated[Caller, Depends(operator)]
Engineer = Annotated[Caller, Depends(engineer)]
Program = Annotated[Caller, Depends(program)]
_Text = Annotated[str, Field(max_length=200)]


class TriggerBody(Frozen):
    """A part that stands before the camera."""

    part_id: _Text = ""
    meas_id: _Text = ""
    key: _Text = ""
    """The same key again is the same job, so that a call without an answer can be repeated."""
    recipe: _Text = ""
    product_id: _Text = ""
    camera: _Text = ""


class ReviewBody(Frozen):
    """What a person says of a part."""

    decision: Literal["OK", "NOK", ""]
    note: Annotated[str, Field(max_length=1000)] = ""


class QuestionBody(Frozen):
    """A question about a part."""

    question: Annotated[str, Field(min_length=1, max_length=500)]


class EnrolBody(Frozen):
    """A part whose photo is to become a reference."""

    result_id: _Text


class RetireBody(Frozen):
    """A reference that is not to be used any more."""

    part: _Text
    reference_id: _Text


class RecipeBody(Frozen):
    """A recipe, or one version of it."""

    external_id: _Text
    internal_id: _Text = ""


class CommentBody(Frozen):
    """Why somebody does it."""

    comment: Annotated[str, Field(max_length=1000)] = ""


class SimulateBody(Frozen):
    """Whether results are only for trying."""

    is_on: bool


@router.post("/api/trigger")
async def trigger(request: Request, body: TriggerBody, caller: Program) -> Any:
    """Accept a part; its result will come."""
    return _record(await desk_of(request).station.trigger(JobRequest(**body.model_dump(), origin="http")))


@router.post("/api/results/{result_id}/ack")
async def acknowledge(request: Request, result_id: str, caller: Program) -> Any:
    """Note that a program has taken a result."""
    (is_known,) = await desk_of(request).station.acknowledge(SINK, [result_id])
    if not is_known:
        raise HTTPException(404, "there is no such result")
    return {"result_id": result_id}


@router.post("/api/results/{result_id}/review")
async def review(request: Request, result_id: str, body: ReviewBody, caller: Operator) -> Any:
    """Confirm or overrule a verdict, or take that back."""
    station = desk_of(request).station
    return _record(await station.review(result_id, body.decision, caller.user.name, body.note))


@router.post("/api/results/{result_id}/ask")
async def ask(request: Request, result_id: str, body: QuestionBody, caller: Operator) -> StreamingResponse:
    """Stream an answer: a line of JSON for each piece, then one that says how it ended."""
    pieces = desk_of(request).station.ask(result_id, body.question)
    return StreamingResponse(_answer(pieces), media_type="application/x-ndjson")


@router.post("/api/references")
async def enrol_upload(request: Request, part: str, name: str, caller: Engineer) -> Any:
    """Enrol an uploaded photo; the body is the file."""
    desk = desk_of(request)
    with _upload(desk) as path:
        await _receive(request, path)
        await asyncio.to_thread(check_photo, path)
        return _record(await desk.station.enroll(part, path, plain_name(name), caller.user.name))


@router.post("/api/references/from-result")
async def enrol_result(request: Request, body: EnrolBody, caller: Engineer) -> Any:
    """Enrol the photo of a part that was inspected."""
    station = desk_of(request).station
    result = await station.result(body.result_id)
    path = await station.archive_file(body.result_id, "photo") if result else None
    if result is None or path is None:
        raise HTTPException(404, "no photo is kept of that part")
    source = plain_name(f"result {result.number} {result.part_id}")
    return _record(await station.enroll(result.part, path, source, caller.user.name))


@router.post("/api/references/retire")
async def retire(request: Request, body: RetireBody, caller: Engineer) -> Any:
    """Take a reference out of use."""
    return _record(await desk_of(request).station.retire(body.part, body.reference_id, caller.user.name))


@router.post("/api/recipes/prepare")
async def prepare(request: Request, body: RecipeBody, caller: Engineer) -> Any:
    """Make a recipe ready, or an earlier version of it."""
    return _record(await desk_of(request).station.prepare(body.external_id, body.internal_id))


@router.post("/api/recipes/unprepare")
async def unprepare(request: Request, body: RecipeBody, caller: Engineer) -> Any:
    """Put a recipe away."""
    return _record(await desk_of(request).station.unprepare(body.external_id))


@router.post("/api/recipes/challenge")
async def challenge(request: Request, body: RecipeBody, caller: Engineer) -> Any:
    """Judge the challenge parts of a recipe now."""
    await desk_of(request).station.challenge(body.external_id)
    return {}


@router.post("/api/conditions/confirm")
async def confirm(request: Request, body: CommentBody, caller: Engineer) -> Any:
    """Acknowledge all conditions."""
    await desk_of(request).station.confirm_all(body.comment, caller.user.name)
    return {}


@router.post("/api/simulate")
async def simulate(request: Request, body: SimulateBody, caller: Engineer) -> Any:
    """Mark results as simulated, or no longer."""
    await desk_of(request).station.simulate(body.is_on)
    return {}


@router.post("/api/state/{command}")
async def command_state(
    request: Request, command: Literal["reset", "halt", "automatic", "stop"], body: CommentBody, caller: Engineer
) -> Any:
    """Change the station's state."""
    station, why = desk_of(request).station, body.comment or f"{caller.user.name} on the web page"
    _log.info("%s by %s", command, caller.user.name)
    if command == "automatic":
        await station.select_automatic()
    else:
        await {"reset": station.reset, "halt": station.halt, "stop": station.stop}[command](CAUSE, why)
    return {}


def plain_name(name: str) -> str:
    """Return what is left of a file name that somebody else chose: its last part, letters, digits and a few signs."""
    last = re.split(r"[\\/]", name)[-1]
    return re.sub(r"[^\w. ()-]+", "_", last).strip(" .")[:100] or "photo"


async def _answer(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    try:
        async for piece in pieces:
            yield json.dumps({"piece": piece}) + "\n"
    except JudoEdgeError as error:
        yield json.dumps({"error": str(error)}) + "\n"
    else:
        yield json.dumps({"end": True}) + "\n"


@contextmanager
def _upload(desk: Desk) -> Iterator[Path]:
    path = upload_folder(desk) / f"{secrets.token_hex(16)}.upload"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


async def _receive(request: Request, path: Path) -> None:
    """Write the body to a file; its length is limited by the guard."""
    with path.open("xb") as stream:
        async for chunk in request.stream():
            stream.write(chunk)


def _record(model: Frozen) -> dict[str, Any]:
    return model.model_dump(mode="json")
