"""Files that go with a message: found in what is typed, read, and attached."""
