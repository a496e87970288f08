"""The routes: ``POST /predict``, the page and ``POST /picture`` for it, and ``GET /health``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_seg.serving.answers import ANSWERS
from lightning_seg.serving.page import PAGE, POLICY
from lightning_seg.serving.requests import read_body, wanted
from lightning_seg.serving.service import Service

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What each answer says: it is what it says it is, it is for this page alone, and the page asks no other machine."""

_ROUTES = "GET / is a page, GET /health says whether it is ready, POST /predict takes an image"


def application(service: Service) -> ASGIApp:
    """The ASGI application of a service, which ends with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's own documentation pages fetch scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.api_route("/", methods=["GET", "HEAD"])
    async def page() -> Response:
        return Response(PAGE, media_type="text/html; charset=utf-8")

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, Any]:
        return {
            "status": "ready",
            "model": service.name,
            "device": str(service.predictor.device),
            "class_names": service.predictor.class_names,
            "batch_size": service.predictor.batch_size,
            "max_bytes": service.limits.max_bytes,
            "max_pixels": service.max_pixels,
            "max_requests": service.limits.max_requests,
            "requests": service.requests,
        }

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        if (kind := wanted(accept, ANSWERS)) is None:
            raise HTTPException(406, f"the request accepts {accept}, and answers are {', '.join(ANSWERS)}")
        with service.place():
            data = await read_body(request, service.limits.max_bytes)
            answer = await service.answer(data, ANSWERS[kind], request.is_disconnected)
        return Response(answer, media_type=kind, headers={"Vary": "Accept"})

    @app.post("/picture")
    async def picture(request: Request) -> Response:
        with service.place():
            data = await read_body(request, service.limits.max_bytes)
            return Response(await service.picture(data, request.is_disconnected), media_type="image/jpeg")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        told = error.detail
        if error.status_code == 404:
            told = f"there is no {request.url.path}: {_ROUTES}"
        elif error.status_code == 405:
            told = f"{request.method} is not for {request.url.path}: {_ROUTES}"
        return JSONResponse({"error": told}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # which nobody gets

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)

    return _with_headers(app)


def _with_headers(app: ASGIApp) -> ASGIApp:
    lines = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *lines]
            await send(message)

        await app(scope, receive, send_more)

    return wrapped
