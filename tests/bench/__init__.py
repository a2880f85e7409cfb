"""Our paths beside their floors, as ratios: `make bench`. Run by hand, never by the tests."""
