import asyncio
from contextlib import AsyncExitStack

from aiobotocore.session import get_session

from lines import answer

loop = asyncio.new_event_loop()
clients = AsyncExitStack()


async def client():
    return await clients.enter_async_context(get_session().create_client("sts"))


async def arn(sts):
    return (await sts.get_caller_identity())["Arn"]


answer(lambda: loop.run_until_complete(client()), lambda sts: loop.run_until_complete(arn(sts)))
loop.run_until_complete(clients.aclose())
