"""What an acceptance must meet: criteria files, ready ones among them, read and checked key by key."""
