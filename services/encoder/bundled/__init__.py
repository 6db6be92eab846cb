"""The small bundled model: how it was rendered, trained and evaluated. Services load its files alone."""
