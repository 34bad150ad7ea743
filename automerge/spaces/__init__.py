"""Search spaces: sets of recipes with their encoding as vectors."""
