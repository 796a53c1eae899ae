"""The answers' shapes, as OpenAPI has them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(Shape):
    """Every answer that is not 200."""

    error: str = Field(description="What was wrong, and what was expected: one sentence.")


class ImageAnswer(Shape):
    """The most probable classes of one image, best first, as `pictorch predict --json` prints them."""

    source: str = Field(description="The file's name, its place in the request, or its address.")
    classes: list[str]
    probabilities: list[float] = Field(description="Of `classes`, 0 to 1; those of all classes sum to 1.")


class ImageError(Shape):
    """An image among several that was not answered."""

    source: str
    error: str
    status: int = Field(description="The status that a request with this image alone has.")


class Answer(Shape):
    """An answer or an error for each image, in the order of the request."""

    predictions: list[ImageAnswer | ImageError]


class Explanation(Shape):
    """Where in one image the network found a class."""

    source: str
    class_index: int
    class_name: str
    probability: float
    input: str = Field(description="What the network saw, a PNG as a data: address.")
    overlay: str = Field(description="The same under the heat map (Grad-CAM), a PNG as a data: address.")


class Health(Shape):
    """What answers here."""

    ready: bool
    run: str
    model: str
    dataset: str
    classes: int
    image_size: int
    in_channels: int
    threads: int = Field(description="torch's threads.")
    urls: bool = Field(description="Whether images are fetched by address.")
    versions: dict[str, str]


class Classes(Shape):
    """The classes in the network's order."""

    classes: list[str]


class Card(Shape):
    """The model card; what the run directory does not say is null."""

    name: str
    run: str
    network: dict[str, Any]
    data: dict[str, Any]
    test: dict[str, Any] | None
    training: dict[str, Any]
    provenance: dict[str, Any]
    protocol: str
    protocol_card: dict[str, str]
    notes: list[str]
