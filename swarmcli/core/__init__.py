"""Pure decisions: no clock, no I/O, no asyncio, no third-party imports."""
