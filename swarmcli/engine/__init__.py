"""The asyncio shell around the pure core; it reaches the world only through ports."""
