"""Model calls that are made side by side, of which all are needed."""

import asyncio
from collections.abc import Collection, Sequence

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest
from swarmcli.errors import FailureKind, ModelError


async def complete_all(
    client: ModelClient, requests: Sequence[ModelRequest], spared: Collection[FailureKind] = ()
) -> list[ModelReply]:
    """All answers, in order; the first failure cancels the others.

    Args:
        client: the composed model path.
        requests: may be empty.
        spared: failures that stop nothing: the reply without text stands for them, with what they took.

    Raises:
        ModelError: one of the calls failed in another way.
    """

    async def one(request: ModelRequest) -> ModelReply:
        try:
            return await client.complete(request)
        except ModelError as error:
            if error.kind not in spared:
                raise
            return _no_answer(error)

    try:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(one(request)) for request in requests]
    except* ModelError as failures:
        raise first_model_error(failures) from None
    return [call.result() for call in calls]


def first_model_error(group: BaseExceptionGroup[ModelError]) -> ModelError:
    """The first single failure of a group that a TaskGroup raised."""
    first = group.exceptions[0]
    return first_model_error(first) if isinstance(first, BaseExceptionGroup) else first


def _no_answer(error: ModelError) -> ModelReply:
    charge = error.charge
    usage = None
    if charge is not None:
        usage = Usage(
            input_tokens=charge.input_tokens,
            output_tokens=charge.output_tokens,
            cached_tokens=charge.cached_tokens,
        )
    cost_usd = None if charge is None else charge.cost_usd
    return ModelReply(
        text="",
        model=error.model,
        usage=usage,
        cost_usd=cost_usd,
        attempts=error.attempts,
        seconds=error.seconds,
    )
