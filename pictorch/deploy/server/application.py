"""The routes of a server, and what OpenAPI says of them."""

import asyncio
import base64
import contextlib
import io
import math
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, TypeVar, final

import torch
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from torch import Tensor

import pictorch
from pictorch.config import UserError
from pictorch.deploy.explain import heatmap
from pictorch.deploy.overlay import overlay
from pictorch.deploy.predict import Prediction, Predictor
from pictorch.deploy.server import answers, body, images, page
from pictorch.deploy.server.batching import Batcher
from pictorch.deploy.server.body import Sent
from pictorch.deploy.server.card import card, encodable
from pictorch.deploy.server.counters import Counters
from pictorch.deploy.server.fetch import Fetcher
from pictorch.deploy.server.guard import BODY, Guard
from pictorch.deploy.server.limits import Limits, Refused
from pictorch.runs import RunDir

T = TypeVar("T")
PATHS = ("/", "/predict", "/explain", "/health", "/metrics", "/classes", "/card", "/openapi.json")
FETCHERS = 4
ABOUT = "Image classification by a trained network. Every error is a JSON object with one sentence."
EVERYWHERE = {
    400: "This is no request to this server: its Host, or its body, is not what it says.",
    429: "One address asks too much at once.",
    503: "Too much is under way; Retry-After says when to try again.",
    504: "It took too long.",
}
OF_IMAGES = {
    **EVERYWHERE,
    403: "A page of another site asks, or addresses are not fetched here.",
    408: "The request came too slowly.",
    413: "Too many bytes or pixels.",
    415: "Another kind of body, or of image, than is taken.",
    422: "Well written, and yet no image, too many, or a number that is not possible.",
}


@final
@dataclass(frozen=True)
class Settings:
    """How a server of one run is to be. `hosts` None: any name; `fetch` None: no addresses are fetched; `protocol` is
    the run's protocol card, {aspect: sentence}."""

    threads: int = 1
    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()
    fetch: Callable[[str], bytes] | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)


@final
class Service:
    """A run's network with its queue, its pools of threads and its counters. Made within the event loop."""

    def __init__(self, run: RunDir, predictor: Predictor, limits: Limits, settings: Settings) -> None:
        self.run, self.predictor, self.limits, self.settings = run, predictor, limits, settings
        self.counters = Counters(PATHS, lambda: self.batcher.admitted)
        observe = self.counters.batch.observe
        self.batcher = Batcher(predictor, limits, threads=settings.threads, on_batch=observe)
        self.decoders = ThreadPoolExecutor(limits.decoders, "decoder")
        self.fetchers = ThreadPoolExecutor(FETCHERS, "fetcher")
        self.card = card(run, predictor, settings.protocol)

    async def close(self) -> None:
        await self.batcher.stop()
        for pool in (self.decoders, self.fetchers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def pixels(self, sent: Sent) -> Tensor:
        """Return the pixels of an image of a request. Raises Refused."""
        loop = asyncio.get_running_loop()
        if sent.fetches:
            raw = await loop.run_in_executor(self.fetchers, sent.load)
            return await loop.run_in_executor(self.decoders, self.decode, raw, sent.name)
        return await loop.run_in_executor(self.decoders, lambda: self.decode(sent.load(), sent.name))

    def decode(self, raw: bytes | bytearray, name: str) -> Tensor:
        return images.pixels(self.predictor, raw, name, self.limits)

    async def predict(self, sent: Sent, top_k: int) -> Prediction | Refused:
        """Return the prediction of one image, or why there is none."""
        try:
            answer = await self.batcher.predict(await self.pixels(sent), sent.name, top_k)
            if not all(map(math.isfinite, answer.probabilities)):  # JSON has no others
                raise Refused(422, f"{sent.name}: the network's answer to this image is not finite")
        except Refused as refused:
            self.counters.images.labels(str(refused.status)).inc()
            return refused
        self.counters.images.labels("200").inc()
        return answer

    async def asked(self, request: Request) -> body.Asked:
        """Return what a request's body holds. Raises Refused."""
        return await body.parse(request.headers, request.scope[BODY], self.limits, self.settings.fetch)

    async def answer(self, request: Request, top_k: int) -> answers.Answer:
        """Return an answer for each image of a request. Raises Refused where its only image has none."""
        asked = await self.asked(request)
        with self.batcher.admit(len(asked.images)):
            most = asked.top_k or top_k
            found = await asyncio.gather(*(self.predict(sent, most) for sent in asked.images))
        shown: list[answers.ImageAnswer | answers.ImageError] = []
        for sent, one in zip(asked.images, found, strict=True):
            if isinstance(one, Prediction):
                classes, probabilities = list(one.classes), list(one.probabilities)
                shown.append(answers.ImageAnswer(source=sent.name, classes=classes, probabilities=probabilities))
            elif len(found) == 1:
                raise one
            else:
                shown.append(answers.ImageError(source=sent.name, error=str(one), status=one.status))
        return answers.Answer(predictions=shown)

    async def explain(self, request: Request, class_index: int | None) -> answers.Explanation:
        """Return where in a request's image the network sees a class. Raises Refused."""
        asked = await self.asked(request)
        if len(asked.images) != 1:
            raise Refused(422, f"expected one image to explain, got {len(asked.images)}")
        [sent] = asked.images
        with self.batcher.admit(1):
            pixels = await self.pixels(sent)
            # The heat map's hooks and gradients are the network's: nothing else may run it meanwhile.
            return await self.batcher.run(lambda: self.explanation(pixels, sent.name, class_index))

    def explanation(self, pixels: Tensor, name: str, class_index: int | None) -> answers.Explanation:
        [probabilities] = self.predictor.logits(pixels[None]).softmax(1).tolist()
        shown = class_index if class_index is not None else probabilities.index(max(probabilities))
        try:
            heat = heatmap(self.predictor, pixels, shown)
        except UserError as error:
            raise Refused(422, f"{name}: {error}") from None
        return answers.Explanation(
            source=name,
            class_index=shown,
            class_name=self.predictor.classes[shown],
            probability=probabilities[shown],
            input=as_address(as_image(pixels)),
            overlay=as_address(overlay(pixels, heat)),
        )

    def health(self) -> answers.Health:
        metadata = self.predictor.metadata
        packages = ("torch", "pillow", "fastapi", "uvicorn")
        return answers.Health(
            ready=True,
            run=self.card["run"],
            model=metadata["model"],
            dataset=metadata["dataset"],
            classes=len(self.predictor.classes),
            image_size=metadata["image_size"],
            in_channels=metadata["in_channels"],
            threads=self.settings.threads,
            urls=self.settings.fetch is not None,
            versions={
                "pictorch": pictorch.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
        )


def as_image(pixels: Tensor) -> Image.Image:
    """Return uint8 [C,S,S] as a grey or RGB image."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def as_address(image: Image.Image) -> str:
    """Return an image as a PNG in a data: address."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def create(run: RunDir, predictor: Predictor, limits: Limits, settings: Settings) -> ASGIApp:
    """Return the ASGI application that serves a run. Raises UserError for a network that does not answer in numbers."""
    check_finite(run, predictor)
    predictor.classes = tuple(map(encodable, predictor.classes))
    service = Service(run, predictor, limits, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.batcher.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="pictorch",
        description=ABOUT,
        version=pictorch.__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    add_routes(app, service)
    add_errors(app)
    guard = Guard(app, limits, hosts=settings.hosts, origins=settings.origins, done=service.counters.request)
    if not settings.origins:
        return guard
    from starlette.middleware.cors import CORSMiddleware

    methods, headers = ["GET", "POST"], ["content-type"]
    return CORSMiddleware(guard, settings.origins, allow_methods=methods, allow_headers=headers)


def check_finite(run: RunDir, predictor: Predictor) -> None:
    """Raise UserError unless the network answers a black image in finite numbers; JSON has no others."""
    metadata = predictor.metadata
    size = metadata["image_size"]
    if not torch.isfinite(
        predictor.logits(torch.zeros(1, metadata["in_channels"], size, size, dtype=torch.uint8))
    ).all():
        raise UserError(
            f"{run.weights}: this network answers in numbers that are not finite: did its training diverge?"
        )


def add_routes(app: FastAPI, service: Service) -> None:
    limits = service.limits
    urls = service.settings.fetch is not None
    several, one = ({"requestBody": body.schema(limits, images=n, urls=urls)} for n in (limits.images, 1))
    last = len(service.predictor.classes) - 1
    shown = page.page(service.card, service.predictor.classes, limits)
    policy = {"content-security-policy": page.POLICY, "cache-control": "no-cache"}

    @app.post("/predict", responses=told(OF_IMAGES), openapi_extra=several)
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=limits.top_k, description="How many classes of each image.")] = 5,
    ) -> answers.Answer:
        """Return the most probable classes of images.

        Of several images each has its own answer or error; a request with a single image that cannot be answered has
        that error's status.
        """
        check_query(request, "top_k")
        return await service.answer(request, top_k)

    @app.post("/explain", responses=told(OF_IMAGES), openapi_extra=one)
    async def explain(
        request: Request,
        class_index: Annotated[
            int | None, Query(ge=0, le=last, description="Of which class (default: the first).")
        ] = None,
    ) -> answers.Explanation:
        """Return where in one image the network sees a class (Grad-CAM)."""
        check_query(request, "class_index")
        return await service.explain(request, class_index)

    @app.get("/health", responses=told(EVERYWHERE))
    async def health() -> answers.Health:
        """Return what answers here; it is ready as soon as it answers."""
        return service.health()

    @app.get("/classes", responses=told(EVERYWHERE))
    async def classes() -> answers.Classes:
        """Return the classes in the network's order."""
        return answers.Classes(classes=list(service.predictor.classes))

    @app.get("/card", responses=told(EVERYWHERE))
    async def model_card() -> answers.Card:
        """Return the model card: data, recipe, test error with the number of images, protocol."""
        return answers.Card(**service.card)

    counted: dict[int | str, Any] = {200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses={**told(EVERYWHERE), **counted})
    async def metrics() -> Response:
        """Return the counters in Prometheus' text format."""
        return Response(service.counters.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(shown, media_type="text/html; charset=utf-8", headers=policy)


def check_query(request: Request, *known: str) -> None:
    """Raise Refused for a parameter that would otherwise be left out of account without a word."""
    for name in request.query_params:
        if name not in known:
            raise Refused(422, f"{images.shown(name)}: unknown parameter; expected {' or '.join(known)}")


def told(statuses: dict[int, str]) -> dict[int | str, Any]:
    """Return what FastAPI wants to know of answers that are errors."""
    return {status: {"model": answers.Error, "description": text} for status, text in statuses.items()}


def add_errors(app: FastAPI) -> None:
    """Have every error be JSON with one sentence."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, error.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        asked = f"{request.method} {images.shown(request.url.path)}"
        message = {404: f"{asked}: there is nothing here", 405: f"{asked}: another method is expected here"}
        return JSONResponse({"error": message.get(error.status_code, error.detail)}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the server failed: {type(error).__name__}; its log says more"}, 500)


def fetcher(limits: Limits) -> Fetcher:
    """Return what fetches images by address within the limits."""
    return Fetcher(limits)
