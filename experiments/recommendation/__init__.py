"""How a search should choose what it recommends."""
