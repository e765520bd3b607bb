"""Our own studies on results that are done: contrasts, soups, cross-fitting, theory, repetition."""
