"""The product: tables with their rules beside them. Knows no HTTP and no claim URI."""
