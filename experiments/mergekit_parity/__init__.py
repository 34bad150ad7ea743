"""Does automerge merge like mergekit? Exported models compared value by value, and golden values for the tests."""
