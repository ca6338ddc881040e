"""Everything a terminal shows: `view` decides, the others draw."""
