"""The yardstick: N calls in parallel and one to sum them up, with LiteLLM as most people call it.

OPENAI_API_BASE=... OPENAI_API_KEY=... python tests/bench/bare.py 300
"""

import asyncio
import sys

import litellm


async def main(n: int) -> None:
    """Ask about N items at once, then once about all answers."""

    async def ask(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        response = await litellm.acompletion(model="openai/fake", messages=messages)
        return response.choices[0].message.content

    calls = (ask(f"Look at item {i}.") for i in range(n))
    answers = await asyncio.gather(*calls)  # noqa: TID251 - as most people write it
    print(await ask("Sum up.\n\n" + "\n".join(answers)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
