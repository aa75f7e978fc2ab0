"""Every target over its seeds and over changes of them, without the fuzzer: what was found once stays found."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from PIL import Image
from tests.fuzz import pictures, protocol, service, wounds
from tests.fuzz.seeds import seeds
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.support.processes import Server

from imagewarden.lists import Format
from imagewarden_server.decoding import DecoderProcesses
from imagewarden_server.media import ImageFormat, MediaError, Picture, decode

CHANGES = 8
"""Of each seed, so many changes are tried."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
EVERY = [(target, name) for target in TARGETS for name in seeds(target)]


def changed(target: Target, data: bytes, count: int) -> Iterator[bytes]:
    """Changes of an input as the fuzzer makes them, the same in every run."""
    chance = random.Random(data)  # noqa: S311 -- repeatable, not secret
    flip = wounds.plain(chance)
    mutate = target.mutate or wounds.blind
    for _ in range(count):
        yield mutate(data, chance, flip)[: target.most_bytes]


@pytest.mark.parametrize(("target", "name"), EVERY)
def test_what_holds_for_every_input_holds_for_a_seed_and_for_changes_of_it(target: str, name: str) -> None:
    one = TARGETS[target]
    data = seeds(target)[name]
    assert len(data) <= one.most_bytes, "a seed that the fuzzer would cut"
    for tried in (data, *changed(one, data, CHANGES if one.seconds < 10 else 2)):
        begin = time.perf_counter()
        try:
            one.run(tried)
        except BaseException as error:
            error.add_note(f"the input was {tried!r}")
            raise
        assert time.perf_counter() - begin < one.seconds


def test_every_decoder_and_every_import_format_has_a_target() -> None:
    decoders = {f"decode-{one.value}" for one in ImageFormat if one is not ImageFormat.SVG}
    assert decoders | {f"list-{one}" for one in Format} | {"svg", "logo", "headers", "api"} <= TARGETS.keys()


def test_every_method_of_the_api_has_a_seed() -> None:
    found = [service.unpacked(data) for data in seeds("api").values()]
    assert {method.name for method, _ in filter(None, found)} == set(service.METHODS)


@pytest.mark.parametrize("target", [name for name in TARGETS if name.startswith("decode-")])
def test_a_decoder_process_says_of_a_seed_what_is_said_here(target: str, decoder: DecoderProcesses) -> None:
    for name, data in seeds(target).items():
        assert said(lambda data: decode(data, pictures.LIMITS), data) == said(decoder.picture, data), name


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcesses]:
    made = DecoderProcesses(pictures.LIMITS, processes=1)
    yield made
    made.close()


def said(read: Callable[[bytes], Picture], data: bytes) -> object:
    try:
        picture = read(data)
    except MediaError as error:
        return error.problem, error.message
    return picture.header, [(frame.index, frame.turned, frame.deviation) for frame in picture.frames]


def _code(channel: grpc.Channel, method: MethodDescriptor, requests: Sequence[Message]) -> grpc.StatusCode:
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    make: Any = getattr(channel, f"{_many(method.client_streaming)}_{_many(method.server_streaming)}")
    sent = [request.SerializeToString() for request in requests]
    call = make(path)
    try:
        answer = call(iter(sent) if method.client_streaming else sent[0], timeout=20)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        return code
    return grpc.StatusCode.OK


def _many(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def test_the_answers_that_a_good_process_gives_are_taken() -> None:
    found = {name: protocol.read_answer(data) for name, data in seeds("decoder-answer").items() if name in GOOD}
    assert {name: type(one) for name, one in found.items()} == GOOD


GOOD = {"first": Image.Image, "full-size": Picture, "more-memory": Picture, "problem": MediaError}
BUGS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


def test_a_server_process_answers_every_seed_of_the_api_and_changes_of_them(server_without_model: Server) -> None:
    target = TARGETS["api"]
    codes: list[grpc.StatusCode] = []
    with grpc.insecure_channel(server_without_model.address) as channel:
        for data in seeds("api").values():
            for tried in (data, *changed(target, data, 20)):
                found = service.unpacked(tried)
                if found is not None and service.served(found[0]):
                    codes.append(_code(channel, *found))
                    assert codes[-1] not in BUGS, f"the input was {tried!r}"
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= set(codes)


def test_a_target_tells_what_is_wrong() -> None:
    """The oracles themselves: each of these is a lie that its target must not let through."""
    small = decode(seeds("decode-png")["still"], pictures.LIMITS)
    small.frames[0].held = small.frames[0].model_input
    with pytest.raises(AssertionError):
        pictures.assert_whole(Picture(small.header, ()))
    with pytest.raises(AssertionError):
        pictures.assert_whole(Picture(small.header, small.frames * 5))
